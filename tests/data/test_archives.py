"""Unpacking: what is in an archive arrives, whole or not at all, and nothing that it says leads anywhere else."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from pictorch.config.errors import UserError
from pictorch.data import archives

FILES = {"set/a": b"a" * 1000, "set/sub/b": os.urandom(5000), "c": b""}


def tar(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return path


def zipped(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(archive: Path, folder: Path, **options: int) -> str:
    """Return the message; nothing is left behind."""
    before = tree(folder)
    with pytest.raises(UserError) as caught:
        archives.unpack(archive, folder / "out", **options)
    assert tree(folder) == before
    assert not (folder / "out").exists()
    assert str(archive) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.zip"])
def test_what_is_in_an_archive_arrives(name: str, tmp_path: Path) -> None:
    path = (zipped if name.endswith("zip") else tar)(tmp_path / name, FILES)
    archives.unpack(path, tmp_path / "new" / "out")
    assert tree(tmp_path / "new") == {f"out/{name}": content for name, content in FILES.items()}
    assert stat.S_IMODE((tmp_path / "new/out").stat().st_mode) == stat.S_IMODE((tmp_path / "new").stat().st_mode)


def test_a_gz_holds_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(FILES["set/a"]))
    archives.unpack(tmp_path / "a.bin.gz", tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.bin": FILES["set/a"]}


def test_only_what_is_wanted_is_unpacked(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {f"./{name}": content for name, content in FILES.items()})
    archives.unpack(path, tmp_path / "out", wanted=["set/a"])
    assert tree(tmp_path / "out") == {"set/a": FILES["set/a"]}
    with pytest.raises(UserError, match=r"x\.tar lacks set/d, set/e$"):
        archives.unpack(path, tmp_path / "other", wanted=["set/a", "set/e", "set/d"])
    assert not (tmp_path / "other").exists()


def test_files_are_added_to_a_folder_that_is_there(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", FILES)
    root = tmp_path / "root"
    (root / "set").mkdir(parents=True)
    (root / "set" / "mine").write_bytes(b"mine")
    archives.add(path, root, wanted=["set/a"])
    assert tree(root) == {"set/a": FILES["set/a"], "set/mine": b"mine"}
    with pytest.raises(UserError, match="lacks set/e"):
        archives.add(path, root, wanted=["set/sub/b", "set/e"])
    assert tree(root) == {"set/a": FILES["set/a"], "set/mine": b"mine"}


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out is there already"):
        archives.unpack(tar(tmp_path / "x.tar", FILES), tmp_path / "out")
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:x", "//host/x"])
@pytest.mark.parametrize("make", [tar, zipped])
def test_a_path_that_leads_out_is_refused(make: object, name: str, tmp_path: Path) -> None:
    assert callable(make)
    path = make(tmp_path / f"x.{'tar' if make is tar else 'zip'}", {"good": b"good", name: b"bad"})
    assert "would lie outside the folder" in refusal(path, tmp_path)


@pytest.mark.parametrize(
    "info",
    [
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("link", tarfile.SYMTYPE, "../x"),
        entry("link", tarfile.SYMTYPE, "set/a"),
        entry("link", tarfile.LNKTYPE, "../x"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("device", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_are_refused(info: tarfile.TarInfo, tmp_path: Path) -> None:
    message = refusal(tar(tmp_path / "x.tar.gz", FILES, info), tmp_path)
    assert message.endswith(f"is refused, nothing was unpacked: its member {info.name!r} is a link or a device")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    message = refusal(zipped(tmp_path / "x.zip", {"a": b"/etc/passwd"}, stat.S_IFLNK | 0o777), tmp_path)
    assert "its member 'a' is a link or a device" in message


@pytest.mark.parametrize("make", [tar, zipped])
def test_a_bomb_is_refused(make: object, tmp_path: Path) -> None:
    assert callable(make)
    path = make(tmp_path / f"x.{'tar.gz' if make is tar else 'zip'}", {"a": bytes(600_000), "b": bytes(600_000)})
    assert "its member 'b' makes it unfold to more than it may" in refusal(path, tmp_path, most=1_000_000)
    archives.unpack(path, tmp_path / "out", most=1_200_000)


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a": b"1", "./a": b"2"})
    assert "is there twice" in refusal(path, tmp_path)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip", "x.gz"])
@pytest.mark.parametrize("keep", [1, 1500, -700])
def test_a_damaged_archive_is_refused(name: str, keep: int, tmp_path: Path) -> None:
    if name == "x.gz":
        (tmp_path / name).write_bytes(gzip.compress(FILES["set/sub/b"]))
    else:
        (zipped if name.endswith("zip") else tar)(tmp_path / name, {"a": os.urandom(20_000)})
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[:keep] if name != "x.tar" or keep >= 0 else raw[:15_000])
    assert "is damaged, or no such archive: " in refusal(tmp_path / name, tmp_path)


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    assert "cannot be unpacked: No such file or directory" in refusal(tmp_path / "x.tar", tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.tar cannot be unpacked: .*/file: (Not a directory|File exists)"):
        archives.unpack(tar(tmp_path / "x.tar", FILES), tmp_path / "file" / "out")
