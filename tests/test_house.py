"""The direction of imports, by walking the source: a room imports only what stands below it (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

import pictorch

PACKAGE = Path(pictorch.__file__).parent
# room -> the rooms it may import, itself aside
ALLOWED: dict[str, set[str]] = {
    "config": set(),
    "models": {"config"},
    "data": {"config"},
    "optim": {"config"},
    "losses": {"config"},
    "metrics": {"config"},
    "runs": {"config"},
    "engine": {"config", "models", "data", "optim", "losses", "metrics", "runs"},
    "experiments": {"config", "runs"},
    "reports": {"config", "runs"},
    "deploy": {"config", "models", "data", "metrics", "runs"},
    "bench": {"config", "models", "data", "optim", "losses", "metrics", "runs", "engine"},
}
TOP = {"api", "cli", "__init__", "__main__"}
NO_TORCH = {"config", "runs", "reports", "experiments"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports anywhere, within functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_room_has_its_place() -> None:
    assert {room_of(path) for path in FILES} <= ALLOWED.keys() | TOP


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path: Path) -> None:
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("pictorch.")}
    rooms = {name for name in rooms if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}
    if room not in TOP:
        assert rooms <= ALLOWED[room] | {room}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_rooms_without_torch(path: Path) -> None:
    if room_of(path) in NO_TORCH:
        assert not {name for name in imported(path) if name.split(".")[0] in ("torch", "torchvision")}


def test_the_walk_sees_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from pictorch.engine import loop\n")
    assert imported(wrong) == {"pictorch.engine.loop"}


def test_no_drawer_for_odds_and_ends() -> None:
    names = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    assert not names & {"utils", "util", "common", "misc", "helpers", "manager"}
