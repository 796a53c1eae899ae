"""The documentation says what the code does: every key, every file, every command."""

import re
import runpy
import shlex
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

import pictorch
from pictorch import api
from pictorch.config import recipes
from pictorch.config.explain import known_keys
from pictorch.config.schema import EXECUTION_KEYS
from pictorch.optim import schedules
from pictorch.runs import RunDir

ROOT = Path(__file__).parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def page_script(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / f"{name}.py")))


def test_every_configuration_key_is_documented() -> None:
    text = read("docs/configuration.md")
    assert page_script("configuration").page() == text, "write it anew with `python docs/configuration.py`"
    documented = re.findall(r"^\| `([a-z0-9_.]+)`( \*)? \|", text, re.MULTILINE)
    assert {key for key, _ in documented} == {key for key in known_keys() if not named_by_block(key)}
    assert {key for key, star in documented if star} == EXECUTION_KEYS


def named_by_block(key: str) -> bool:
    """Whether a key is the name that stands for a block of several kinds."""
    return key.endswith(".name") and key not in ("data.name", "model.name")


def test_the_page_of_methods_is_what_the_code_says() -> None:
    assert page_script("methods").page() == read("docs/methods.md"), "write it anew with `python docs/methods.py`"


def test_the_page_of_explanations_is_what_passes_through_the_networks_find() -> None:
    assert page_script("explain").page() == read("docs/explain.md"), "write it anew with `python docs/explain.py`"


def test_every_schedule_is_documented() -> None:
    documented = re.findall(r"^\| `([a-z_]+)` \|", read("docs/schedules.md"), re.MULTILINE)
    assert set(schedules.SHAPES) <= set(documented)


def test_every_file_of_a_run_is_documented() -> None:
    run = RunDir(Path("run"))
    names = {getattr(run, name).name for name in dir(RunDir) if isinstance(getattr(RunDir, name), property)}
    assert len(fields(run)) == 1
    text = read("docs/run-directory.md")
    assert [name for name in names if f"`{name}" not in text] == []


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", read(page)):
        assert ((ROOT / page).parent / target).exists(), target


def test_recipes_in_the_readme_exist() -> None:
    named = set(re.findall(r"(?:pictorch train|load_config\(\")\s?([a-z0-9_]+(?:/[a-z0-9_]+)+)", read("README.md")))
    assert named
    assert named <= set(recipes.names())


def test_the_settings_in_the_readme_are_valid() -> None:
    lines = re.findall(r"^pictorch (?:train|lr-find) (\S+/\S+.*)", read("README.md"), re.MULTILINE)
    commands = [
        shlex.split(re.sub("--(dry-run|quick)", "", line.partition("  #")[0]).replace("RUN_DIR", "run"))
        for line in lines
    ]
    valid = [words for words in commands if "--config" not in words and "my_nets:MyNet" not in " ".join(words)]
    assert len(valid) >= 8
    for recipe, *settings in valid:
        api.load_config(recipe, settings)


def test_the_public_names_are_there() -> None:
    for name in pictorch.__all__:
        assert callable(getattr(pictorch, name))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        pictorch.trian  # noqa: B018


def test_the_page_of_networks_is_written_anew() -> None:
    """docs/models.md is what docs/models.py writes from the families as they are."""
    page_of_networks = page_script("models")
    assert page_of_networks.page() == read("docs/models.md"), "write it anew with `python docs/models.py`"


def test_the_sample_in_the_readme_is_what_the_command_prints(
    small_run: api.Result, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line but for the numbers: same words, same order."""
    from pictorch.cli.training import show_result

    show_result(small_run)
    words = [re.findall(r"[A-Za-z]{3,}", line)[:1] for line in capsys.readouterr().out.splitlines()]
    sample = read("README.md").partition("<!-- sample -->")[2].partition("<!-- /sample -->")[0]
    shown = [re.findall(r"[A-Za-z]{3,}", line)[:1] for line in sample.partition("Finished")[2].splitlines()]
    assert shown[1:-1] == words[1:]
