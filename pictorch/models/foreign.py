"""Networks that are not of this package: a user's own by import path, timm's by name.

    create("my_package.nets:MyNet", depth=5)        MyNet(num_classes=10, in_channels=3, image_size=32, depth=5)
    create("timm:resnet18")                         timm.create_model("resnet18", num_classes=10, in_chans=3)

A user's own is any class or function that returns an nn.Module for images [N, in_channels, H, W] -> logits
[N, num_classes]. It is looked for in the current directory and among the installed packages, and is given those of
num_classes, in_channels and image_size that it has parameters for.
"""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import nn

from pictorch.config.errors import OptionError, nearest

TIMM = "timm:"


def is_foreign(name: str) -> bool:
    """Return whether `name` is an import path or one of timm's."""
    return ":" in name


def check(name: str, options: Mapping[str, object]) -> None:
    """Raise OptionError if there is no such network, or it has no such option; nothing is built."""
    if name.startswith(TIMM):
        find_in_timm(name)
        return
    parameters = inspect.signature(find(name)).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for option in options:
        if option not in known:
            raise OptionError(name, option, f"unknown option{nearest(option, known)}")


def create(name: str, *, num_classes: int, in_channels: int, image_size: int, **options: Any) -> nn.Module:
    """Return the network, on the CPU. Raises OptionError that says where in the user's code it failed."""
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    # The code of others reads values of what it makes, which a meta device has none of.
    with torch.device("cpu"):
        if name.startswith(TIMM):
            return create_in_timm(name, sizes, options)
        function = find(name)
        parameters = inspect.signature(function).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        given = {key: value for key, value in sizes.items() if takes_all or key in parameters}
        try:
            model = function(**given, **options)
            if not isinstance(model, nn.Module):
                raise OptionError(name, None, f"expected it to return an nn.Module, got {type(model).__name__}")
            logits = model.eval()(torch.zeros(2, in_channels, image_size, image_size))
        except OptionError:
            raise
        except Exception as error:
            raise OptionError(name, None, told(error)) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, num_classes):
        got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        shape = [2, in_channels, image_size, image_size]
        raise OptionError(name, None, f"expected logits [2, {num_classes}] for images {shape}, got {got}")
    return model.train()


def find(name: str) -> Callable[..., Any]:
    """Return the class or function that an import path names. Raises OptionError with the nearest names."""
    path, _, attribute = name.partition(":")
    module = import_module(name, path)
    found: Callable[..., Any] | None = getattr(module, attribute, None)
    if callable(found):
        return found
    networks = [key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)]
    what = f"{path} has no class or function {attribute!r}"
    raise OptionError(name, None, what + (nearest(attribute, networks) if networks else "; it has no networks at all"))


def import_module(name: str, path: str) -> ModuleType:
    here = os.getcwd()
    if not all(part.isidentifier() for part in path.split(".")):
        raise OptionError(name, None, f"expected an import path as in 'my_package.nets:MyNet', got {path!r} before ':'")
    # The installed command does not look into the current directory, as `python -m` does.
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(f"{error.name}.")):
            raise OptionError(name, None, told(error)) from error
        where = f"looked for in {here} and among the installed packages"
        raise OptionError(name, None, f"there is no module {error.name!r}; {where}") from None
    except Exception as error:
        raise OptionError(name, None, told(error)) from error


def told(error: Exception) -> str:
    """Return an exception of the user's code in a sentence, with the user's own file and line that it came through."""
    text = (str(error) or "no message").splitlines()[0]
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} in {error.filename}, line {error.lineno}: {error.msg}"
    frame = last_frame_of_the_user(error.__traceback__)
    where = f" in {frame.filename}, line {frame.lineno}" if frame else ""
    return f"{type(error).__name__}{where}: {text}"


def last_frame_of_the_user(trace: TracebackType | None) -> traceback.FrameSummary | None:
    """Return the innermost frame that is neither ours nor an installed package's nor the import machinery's."""
    ours = Path(__file__).parent.parent
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if not frame.filename.startswith("<")
        and "site-packages" not in Path(frame.filename).parts
        and not Path(frame.filename).is_relative_to(ours)
        and not Path(frame.filename).is_relative_to(Path(os.__file__).parent)
    ]
    return frames[-1] if frames else None


def find_in_timm(name: str) -> ModuleType:
    """Return timm, if it is here and has the network. Raises OptionError."""
    try:
        timm: ModuleType = importlib.import_module("timm")
    # Beside a torch of another build, timm's own imports raise RuntimeError.
    except (ImportError, RuntimeError) as error:
        raise OptionError(name, None, f"timm cannot be imported ({error}); `python -m pip install timm`") from None
    wanted = name.removeprefix(TIMM)
    if not timm.is_model(wanted.partition(".")[0]):
        hint = nearest(wanted, timm.list_models())
        hint = hint if "did you mean" in hint else "; timm.list_models() names its 1,000"
        raise OptionError(name, None, f"timm has no network {wanted!r}{hint}")
    return timm


def create_in_timm(name: str, sizes: Mapping[str, int], options: Mapping[str, Any]) -> nn.Module:
    """Return timm's network; of a fixed image size (transformers), that size is set."""
    timm = find_in_timm(name)
    keywords = {"num_classes": sizes["num_classes"], "in_chans": sizes["in_channels"], **options}
    try:
        entry = timm.models.model_entrypoint(name.removeprefix(TIMM).partition(".")[0])
        # `fixed_input_size` is timm's own word for networks that are built for one image size.
        if entry.__module__ and getattr(timm.get_pretrained_cfg(entry.__name__), "fixed_input_size", False):
            keywords.setdefault("img_size", sizes["image_size"])
        model: nn.Module = timm.create_model(name.removeprefix(TIMM), **keywords)
    except Exception as error:
        raise OptionError(name, None, told(error)) from error
    return model
