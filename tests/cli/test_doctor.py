"""`pictorch data verify FOLDER`: what it prints, and how it ends."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pictorch.cli.doctor import verify_folder
from pictorch.config import UserError


def fill(root: str, folders: tuple[str, ...], each: int = 3, kind: str = "RGB") -> Path:
    for number, folder in enumerate(folders):
        (Path(root) / folder).mkdir(parents=True)
        for i in range(each):
            Image.linear_gradient("L").rotate(360 * (number * each + i) / (len(folders) * each)).convert(kind).save(
                Path(root) / folder / f"{i}.png"
            )
    return Path(root)


def test_a_healthy_folder_is_described_with_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    verify_folder(fill("my set", ("train/ants", "train/bees", "val/ants", "val/bees"), kind="L"), as_json=False)
    printed = capsys.readouterr()
    for line in (
        "my set: 12 readable images",
        "note: my set: there is no test/; val/ is the test part",
        "class   train  test",
        "ants        3     3",
        "in all      6     6",
        "kinds: 12 grey",
    ):
        assert f"{line}\n" in printed.out
    command = printed.out.splitlines()[-1]
    assert command.startswith("Next: pictorch train 'data.name=./my set' data.image_size=224 'data.mean=[0.")
    assert command.endswith(" data.channels=1")
    assert "Not usable" not in printed.out
    assert printed.err == ""


def test_faults_are_listed_and_corrupt_files_end_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    root = fill("set", ("train/ants", "train/bees", "test/ants", "test/bees"))
    (root / "train/ants/cut.png").write_bytes((root / "train/ants/0.png").read_bytes()[:-400])
    (root / "test/bees/copy.png").write_bytes((root / "train/ants/1.png").read_bytes())
    Image.open(root / "train/bees/0.png").resize((99, 99)).save(root / "test/bees/small.png")
    with pytest.raises(SystemExit) as ended:
        verify_folder(root, as_json=False)
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "\ncorrupt files: 1\n  train/ants/cut.png: this image cannot be read: " in printed
    assert "  train/ants/1.png, test/bees/copy.png  (parts test and train, classes ants and bees)\n" in printed
    assert "test/bees/small.png, train/bees/0.png  (parts test and train)\n" in printed
    assert "\nNot usable as it is: mend or remove what is listed as corrupt or in the way.\n" in printed


def test_json_has_all_of_it_on_the_terminal_and_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    root = fill("set", tuple(f"class{i:02d}" for i in range(12)), each=1)
    for i in range(12):
        (root / f"class{i:02d}/bad.jpg").write_text("x")
    with pytest.raises(SystemExit):
        verify_folder(root, as_json=True, out="report.json")
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(Path("report.json").read_text())
    assert not report["usable"]
    assert len(report["corrupt"]) == 12
    assert report["counts"] == {"all": {f"class{i:02d}": 1 for i in range(12)}}


def test_long_lists_are_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    root = fill("set", tuple(f"class{i:02d}" for i in range(25)), each=1)
    for i in range(12):
        (root / f"class{i:02d}/bad.jpg").write_text("x")
    with pytest.raises(SystemExit):
        verify_folder(root, as_json=False)
    printed = capsys.readouterr().out
    assert "  and 2 more; --json lists all\n" in printed
    assert "class11/bad.jpg" not in printed
    assert "and 15 larger ones" in printed


def test_what_is_no_folder_or_cannot_be_written_is_said() -> None:
    with pytest.raises(UserError, match=r"^none: there is no such folder$"):
        verify_folder(Path("none"), as_json=False)
    with pytest.raises(UserError, match=r"^--out: no/report\.json cannot be written: No such file or directory$"):
        verify_folder(fill("set", ("a", "b"), each=1), as_json=False, out="no/report.json")


def test_an_empty_folder_is_told_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("set").mkdir()
    with pytest.raises(SystemExit):
        verify_folder(Path("set"), as_json=False)
    printed = capsys.readouterr().out
    assert "fewer than two class folders: 1\n  none in set\n" in printed
    assert "Next:" not in printed


def test_a_name_that_is_no_text_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    root = fill("set", ("ants", "bees"))
    with open(bytes(root / "ants") + b"/caf\xe9.png", "wb") as file:
        file.write(b"x")
    with pytest.raises(SystemExit):
        verify_folder(root, as_json=False)
    assert "  ants/caf\\udce9.png: this is not an image file" in capsys.readouterr().out
