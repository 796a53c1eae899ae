"""The five minutes of docs/start.md, command by command, and what they print beside what the page shows."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import required_in_ci

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[\w-]+)(?: after)?: (?P<of>.+?) -->\n)?^```(?P<kind>bash|python)\n(?P<code>.*?)^```\n"
    r"(?:\n^```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """Something to type, what it shows, and `mark` with `of`: when to press Ctrl-C, or which data it needs."""

    kind: str
    code: str
    shown: str
    mark: str
    of: str


def blocks() -> Iterator[Block]:
    for match in BLOCK.finditer(PAGE):
        parts = match.groupdict(default="")
        yield Block(parts["kind"], parts["code"], parts["shown"], parts["mark"], parts["of"])


INSTALL, *TYPED = blocks()


def words(line: str) -> list[str]:
    """Return what of a line does not depend on the machine: its first two words, whatever its numbers."""
    return re.findall(r"[A-Za-z][\w.-]{2,}", re.sub(r"\d[\d.,:e-]*", " ", line))[:2]


def show_the_same(shown: str, said: str) -> None:
    """Assert that the lines shown are said, in their order; without "..." between them one right after the other."""
    lines, at, skipped = said.splitlines(), 0, False
    for line in shown.splitlines():
        if line == "...":
            skipped = True
            continue
        found = next((i for i in range(at, len(lines)) if words(lines[i]) == words(line)), None)
        assert found is not None, f"not said: {line}\n{said}"
        assert skipped or found == at, f"not said here: {line}\n{said}"
        at, skipped = found + 1, False


def type_in(code: str, place: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-ec", code],
        cwd=place,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}"
    return done.stdout


def stopped(code: str, after: str, place: Path, env: dict[str, str]) -> str:
    """Type a command and press Ctrl-C after a line that begins so; return what it printed."""
    with subprocess.Popen(
        ["bash", "-ec", f"exec {code}"],
        cwd=place,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdout
        said = ""
        end = time.monotonic() + 120
        for line in process.stdout:
            said += line
            assert time.monotonic() < end, said
            if line.startswith(after):
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, said
    return said


@pytest.fixture
def shell(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder to type in, and an environment in which `pictorch` and `python` are those under test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, call in (("pictorch", "-m pictorch "), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}"$@"\n')
        (programs / name).chmod(0o755)
    place = tmp_path / "five minutes"
    place.mkdir()
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    env = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": paths, "COLUMNS": "100"}
    return place, os.environ | env


def test_the_page_installs_as_the_readme_does() -> None:
    """The command that the README and every clean build begin with."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- commands -->")[2]
    assert INSTALL.code.strip() in readme
    assert len(TYPED) == len(re.findall(r"^```(?:bash|python)$", PAGE, re.MULTILINE)) - 1 >= 9


@pytest.mark.slow
def test_the_five_minutes(shell: tuple[Path, dict[str, str]]) -> None:
    place, env = shell
    for block in TYPED:
        if block.mark == "needs":
            continue
        if block.mark == "Ctrl-C":
            said = stopped(block.code, block.of, place, env)
        elif block.kind == "python":
            (place / "typed.py").write_text(block.code)
            said = type_in("python typed.py", place, env)
        else:
            said = type_in(block.code, place, env)
        show_the_same(block.shown, said)
    assert (place / "runs" / "report" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.real_data
def test_the_paper_s_recipe(shell: tuple[Path, dict[str, str]]) -> None:
    place, env = shell
    root = Path(os.environ.get("PICTORCH_DATA", "~/.cache/pictorch/data")).expanduser()
    if not (root / "cifar-10-batches-py").is_dir():
        required_in_ci(f"CIFAR-10 is not under {root}")
    (block,) = (block for block in TYPED if block.mark == "needs")
    assert block.of == "cifar10"
    show_the_same(block.shown, type_in(block.code, place, env))


def test_lines_are_held_against_lines() -> None:
    said = "alpha beta 3.5 gamma\nfiles 7\nlast word 9"
    show_the_same("alpha beta 1.25 x\nfiles 2\n...\nlast word 1", said)
    show_the_same("...\nlast word 1", said)
    for wrong in ("alpha gamma", "files 2", "alpha beta\nlast word", "...\nfirst word", "last word\n...\nalpha beta"):
        with pytest.raises(AssertionError, match="not said"):
            show_the_same(wrong, said)
