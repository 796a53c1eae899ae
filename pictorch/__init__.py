"""pictorch: PyTorch image classification where every number has a history."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["create_model", "evaluate", "explain", "export", "list_models", "load_config", "predict", "train"]

if TYPE_CHECKING:
    from pictorch.api import evaluate, explain, export, load_config, predict, train
    from pictorch.models import create as create_model
    from pictorch.models import list_models


def __getattr__(name: str) -> Any:
    """Import on first use: `import pictorch` alone takes no torch, so that `pictorch --help` answers at once."""
    if name in ("create_model", "list_models"):
        from pictorch import models

        return models.create if name == "create_model" else models.list_models
    if name in __all__:
        from pictorch import api

        return getattr(api, name)
    raise AttributeError(f"module 'pictorch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
