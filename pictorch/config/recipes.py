"""The recipes: YAML files under `configs/`, named by their path without the ending (`cifar10/resnet_preact_20`).

Those under `configs/grids/` are no recipes but grids of them (`experiments.grid`).
"""

from pathlib import Path

from pictorch.config.errors import UserError, nearest
from pictorch.config.keywords import show

DEFAULT = "digits/resnet_preact_8"
GRIDS = "grids/"


def directory() -> Path:
    """Return the folder that holds the recipes: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"


def files() -> list[str]:
    """Return the names of all recipes and grids, sorted."""
    top = directory()
    return sorted(p.relative_to(top).with_suffix("").as_posix() for p in top.rglob("*.yaml"))


def names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return [name for name in files() if not name.startswith(GRIDS)]


def grids() -> list[str]:
    """Return the names of all grids, sorted."""
    return [name for name in files() if name.startswith(GRIDS)]


def find(name: str) -> Path:
    """Return the file of a recipe. Raises UserError for a grid, and with the nearest names for an unknown one."""
    path = directory() / f"{name}.yaml"
    if name in names():
        return path
    if name in grids():
        raise UserError(f"{name} is a grid of runs, not a recipe: `pictorch sweep {name}` trains them")
    raise UserError(
        f"no recipe {show(name)}{nearest(name, names())}\n`pictorch recipes` lists them; a file is given with --config"
    )


def summary(name: str) -> str:
    """Return the first line of the header comment of a recipe, or a grid: what it is, in a sentence."""
    first = (directory() / f"{name}.yaml").read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
