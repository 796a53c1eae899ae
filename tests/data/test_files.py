"""Finding, reading, decompressing; and messages that say which file, what was expected and found, and what to do."""

import dataclasses
import gzip
import hashlib
from pathlib import Path

import pytest

from pictorch.config.errors import UserError
from pictorch.data import files
from pictorch.data.specs import File, Form, find

CONTENT = b"the bytes of a file" * 100


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def form(path: str, content: bytes) -> Form:
    return Form(path, len(content), md5(content))


PACKED = gzip.compress(CONTENT, mtime=0)
FILE = File("train", "images", (form("set/a", CONTENT), form("set/a.gz", PACKED)))
SPEC = dataclasses.replace(find("mnist"), name="tiny", files=(FILE,))


def test_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PICTORCH_DATA", str(tmp_path))
    assert files.root() == tmp_path
    assert files.root("elsewhere") == Path("elsewhere")
    assert files.root("~/d") == Path.home() / "d"
    monkeypatch.setenv("PICTORCH_DATA", "")
    assert files.root() == Path.home() / ".cache/pictorch/data"
    monkeypatch.delenv("PICTORCH_DATA")
    assert files.root() == Path.home() / ".cache/pictorch/data"


@pytest.mark.parametrize(
    ("variable", "given", "said"),
    [
        ("~nosuchuser/d", None, "PICTORCH_DATA: ~nosuchuser/d: no home directory is known for ~nosuchuser"),
        ("/x", "~nosuchuser", "--data-dir (or data.dir): ~nosuchuser: no home directory is known for ~nosuchuser"),
        ("/x", "a\0b", r"--data-dir (or data.dir): expected a path, which has no NUL character, got 'a\x00b'"),
    ],
)
def test_a_root_that_is_no_path_is_told_with_its_setting(
    variable: str, given: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICTORCH_DATA", variable)
    with pytest.raises(UserError) as caught:
        files.root(given)
    assert str(caught.value) == said


def read(root: Path) -> files.Content:
    (content,) = files.read_all(SPEC, root)
    return content


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "stored"),
    [("a", CONTENT), ("a.gz", PACKED), ("a.gz", gzip.compress(CONTENT, 1, mtime=0))],
    ids=["raw", "packed", "packed-otherwise"],
)
def test_raw_and_compressed_have_the_same_content_and_standing(root: Path, name: str, stored: bytes) -> None:
    (root / "set" / name).write_bytes(stored)
    content = read(root)
    assert content.raw == CONTENT
    assert (content.size, content.md5) == (len(stored), md5(stored))
    assert content.official


def test_the_preferred_form_is_read_where_both_are_there(root: Path) -> None:
    (root / "set" / "a").write_bytes(CONTENT)
    (root / "set" / "a.gz").write_bytes(b"never looked at")
    assert read(root).path.name == "a"


def test_a_file_without_known_md5_is_not_official(root: Path) -> None:
    (root / "set" / "a").write_bytes(CONTENT)
    unknown = File("train", "images", (Form("set/a", None, None), form("set/a.gz", PACKED)))
    (content,) = files.read_all(dataclasses.replace(SPEC, files=(unknown,)), root)
    assert content.deviation is not None
    assert "size not known, md5 not known" in str(content.damaged("why"))


def test_other_content_is_not_official(root: Path) -> None:
    (root / "set" / "a").write_bytes(CONTENT + b"!")
    assert not read(root).official


def test_missing_files_are_listed_with_sizes_checksums_and_the_way_to_change_the_root(root: Path) -> None:
    spec = find("cifar10")
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_2").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        next(files.read_all(spec, root))
    message = str(caught.value)
    assert str(root) in message
    for file in spec.files:
        assert file.forms[0].path in message
    assert "missing  cifar-10-batches-py/data_batch_1 (31,035,704 bytes, md5 c99cafc1" in message
    assert "found    cifar-10-batches-py/data_batch_2" in message
    command = f"`pictorch data prepare cifar10 --data-dir {root}` downloads them. By hand: "
    assert f"\n{command}Unpack cifar-10-python.tar.gz of https://www.cs.toronto.edu/" in message
    assert "pictorch data prepare" not in str(files.missing(spec, root, by_hand=True))
    assert "--data-dir" in message
    assert "PICTORCH_DATA" in message


def test_missing_root_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        next(files.read_all(SPEC, tmp_path / "nowhere"))


@pytest.mark.parametrize("setting", [files.GIVEN, files.VARIABLE, files.DEFAULT])
def test_the_setting_that_gave_the_root_is_said(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PICTORCH_DATA", raising=False)
    if setting == files.VARIABLE:
        monkeypatch.setenv("PICTORCH_DATA", "~/here")
    root = files.root("there" if setting == files.GIVEN else None)
    said = {
        files.GIVEN: "This data root was given by --data-dir or data.dir",
        files.VARIABLE: "This data root is that of the environment variable PICTORCH_DATA",
        files.DEFAULT: "This is the default data root; --data-dir, data.dir",
    }
    message = str(files.missing(find("cifar10"), root))
    assert f"under {root} (there is no such folder):" in message
    assert [name for name, text in said.items() if text in message] == [setting]
    assert ("pictorch data prepare cifar10`" in message) == (setting != files.GIVEN)


def test_a_root_that_is_a_file_or_a_name_too_long_is_said(tmp_path: Path) -> None:
    (tmp_path / "cifar.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"cifar\.tar\.gz \(this is a file, not a folder\)"):
        next(files.read_all(SPEC, tmp_path / "cifar.tar.gz"))
    with pytest.raises(UserError, match="files are missing under"):
        next(files.read_all(SPEC, tmp_path / ("n" * 300)))


@pytest.mark.parametrize("given", ["", "set", "set/a", "no/set", "."])
def test_files_near_the_root_are_pointed_to(given: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = root / "data"
    (right / "set").mkdir(parents=True)
    (right / "set" / "a").write_bytes(CONTENT)
    monkeypatch.chdir(right / "set")
    wrong = {"": root, ".": Path()}.get(given, right / given)
    with pytest.raises(UserError) as caught:
        next(files.read_all(SPEC, wrong))
    assert str(caught.value) == (
        f"tiny: its files lie under {right}, not under {wrong}; set --data-dir (or data.dir) to {right}"
    )
    monkeypatch.setenv("PICTORCH_DATA", str(wrong))
    with pytest.raises(UserError, match=f"; set PICTORCH_DATA to {right}$"):
        next(files.read_all(SPEC, wrong))


def test_files_near_the_default_root_are_pointed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PICTORCH_DATA", raising=False)
    folder = files.root() / "more" / "set"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(CONTENT)
    with pytest.raises(UserError, match=rf"; set --data-dir {folder.parent}$"):
        next(files.read_all(SPEC, files.root()))


def test_a_folder_of_a_files_name_is_not_the_file(root: Path) -> None:
    (root / "set" / "a").mkdir()
    with pytest.raises(UserError, match="files are missing"):
        read(root)


def test_a_missing_shipped_file_sends_nobody_to_the_data_root(tmp_path: Path) -> None:
    message = str(files.missing(find("digits"), tmp_path))
    assert "reinstall pictorch" in message
    assert "--data-dir" not in message
    assert "prepare" not in message


def test_an_unreadable_file_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (root / "set" / "a").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"set/a cannot be read: Permission denied"):
        read(root)


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (PACKED[:-1], "ends in the middle"),
        (PACKED[: len(PACKED) // 2], "ends in the middle"),
        (b"", "ends in the middle"),
        (CONTENT, "its compression is damaged"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "its compression is damaged"),
        (PACKED + b"tail", "4 bytes follow"),
    ],
    ids=["last byte missing", "half missing", "empty", "not compressed", "wrong sum", "longer"],
)
def test_damaged_compression_is_refused_with_expected_and_found(root: Path, stored: bytes, why: str) -> None:
    (root / "set" / "a.gz").write_bytes(stored)
    with pytest.raises(UserError) as caught:
        read(root)
    message = str(caught.value)
    assert why in message
    assert str(root / "set" / "a.gz") in message
    assert f"expected: {len(PACKED):,} bytes, md5 {md5(PACKED)}" in message
    assert f"found:    {len(stored):,} bytes, md5 {md5(stored)}" in message
    assert SPEC.obtain in message


def test_size_is_bounded_on_disk_and_unfolded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    (root / "set" / "a.gz").write_bytes(PACKED)
    with pytest.raises(UserError, match="unfolds to more than the 1,000 bytes"):
        read(root)
    (root / "set" / "a").write_bytes(CONTENT)
    with pytest.raises(UserError, match="larger than the 1,000 bytes"):
        read(root)
