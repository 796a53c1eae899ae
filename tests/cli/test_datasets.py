"""`pictorch data prepare|verify|show`: what is downloaded, said and drawn, from a server in a thread."""

import dataclasses
import hashlib
import http.server
import io
import json
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictorch import data
from pictorch.cli import datasets
from pictorch.config import UserError
from pictorch.data import imagenet
from pictorch.data.specs import Form

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
BATCHES = {
    file.forms[0].path: pickle.dumps({"data": PIXELS, "labels": [n % 10 for n in range(20)]}, 2)
    for file in data.find("cifar10").files
}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def packed() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in {**BATCHES, "cifar-10-batches-py/readme.html": b"not wanted"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server on the folder tmp_path/mirror."""
    (tmp_path / "mirror").mkdir()
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "mirror")))
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http_server.server_port}"
    http_server.shutdown()
    http_server.server_close()
    thread.join()


@pytest.fixture
def cifar(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root without files, and a small cifar10 whose first mirror has nothing and whose second the archive."""
    monkeypatch.setenv("no_proxy", "*")
    archive = packed()
    (tmp_path / "mirror" / "cifar-10-python.tar.gz").write_bytes(archive)
    urls = tuple(f"{server}/{place}cifar-10-python.tar.gz" for place in ("none/", ""))
    spec = data.find("cifar10")
    files = tuple(
        dataclasses.replace(file, forms=(Form(path, len(BATCHES[path]), md5(BATCHES[path])),))
        for file in spec.files
        for path in [file.forms[0].path]
    )
    form = Form("cifar-10-python.tar.gz", len(archive), md5(archive), urls)
    monkeypatch.setitem(data.SPECS, "cifar10", dataclasses.replace(spec, files=files, archive=form))
    monkeypatch.setenv("PICTORCH_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


def listed(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_prepare_downloads_checks_unpacks_and_says_what_is_next(
    cifar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets.prepare("cifar10", data_dir=None)
    assert listed(cifar) == sorted(BATCHES)
    assert capsys.readouterr().out.splitlines() == [
        f"downloading cifar-10-python.tar.gz (0 MiB) to {cifar}",
        f"unpacking {cifar}/cifar-10-python.tar.gz",
        "cifar10: 100 training and 20 test images",
        "Next: pictorch train cifar10/resnet_preact_20",
    ]
    before = {path: path.stat().st_mtime_ns for path in cifar.rglob("*")}
    datasets.prepare("cifar10", data_dir=None)
    assert capsys.readouterr().out.splitlines()[0] == f"cifar10 is there already, under {cifar}"
    assert {path: path.stat().st_mtime_ns for path in cifar.rglob("*")} == before


def test_prepare_adds_only_what_is_missing(cifar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = list(BATCHES)[:2]
    (cifar / first).parent.mkdir(parents=True)
    (cifar / first).write_bytes(mine := pickle.dumps({"data": PIXELS, "labels": [0] * 20}, 2))
    datasets.prepare("cifar10", data_dir=str(cifar))
    assert (cifar / first).read_bytes() == mine
    assert (cifar / second).read_bytes() == BATCHES[second]
    out = capsys.readouterr().out
    assert f"note: not the official file: {cifar / first}: expected {len(BATCHES[first]):,} bytes" in out
    assert out.splitlines()[-1] == f"Next: pictorch train cifar10/resnet_preact_20 --data-dir {cifar}"


def test_an_archive_that_somebody_put_there_is_checked_used_and_left(cifar: Path) -> None:
    cifar.mkdir()
    path = cifar / "cifar-10-python.tar.gz"
    path.write_bytes(packed()[:-1])
    with pytest.raises(UserError, match=r"python\.tar\.gz: it is not the official archive\.\n  expected: "):
        datasets.prepare("cifar10", data_dir=None)
    assert listed(cifar) == [path.name]
    path.write_bytes(Path(cifar.parent / "mirror" / path.name).read_bytes())
    datasets.prepare("cifar10", data_dir=None)
    assert listed(cifar) == sorted([*BATCHES, path.name])


def test_where_no_mirror_answers_the_files_are_listed(cifar: Path) -> None:
    (cifar.parent / "mirror" / "cifar-10-python.tar.gz").unlink()
    with pytest.raises(UserError) as caught:
        datasets.prepare("cifar10", data_dir=None)
    message = str(caught.value)
    assert message.startswith("cifar-10-python.tar.gz could not be downloaded:\n  http://127.0.0.1:")
    assert message.count(": 404 File not found") == 2
    assert f"cifar10: files are missing under {cifar}:\n  missing  cifar-10-batches-py/data_batch_1 (" in message
    assert "Unpack cifar-10-python.tar.gz of https://www.cs.toronto.edu" in message
    assert "pictorch data prepare" not in message
    assert listed(cifar) == []


def test_files_without_an_archive_are_downloaded_one_by_one(
    cifar: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = data.SPECS["cifar10"]
    for path, content in BATCHES.items():
        (cifar.parent / "mirror" / Path(path).name).write_bytes(content)
    files = tuple(
        dataclasses.replace(file, forms=(dataclasses.replace(form, urls=(f"{server}/{Path(form.path).name}",)),))
        for file in spec.files
        for form in file.forms
    )
    monkeypatch.setitem(data.SPECS, "cifar10", dataclasses.replace(spec, files=files, archive=None))
    datasets.prepare("cifar10", data_dir=None)
    assert listed(cifar) == sorted(BATCHES)


def test_a_shipped_set_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    datasets.prepare("digits", data_dir=None)
    assert capsys.readouterr().out.startswith("digits is part of the package\n")


def test_lines_tell_of_a_long_download(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "SECONDS_BETWEEN_LINES", 0.0)
    with datasets.progress("file") as report:
        report(1, 4)
        report(4, 4)
    assert capsys.readouterr().out == "file: 25%\nfile: 100%\n"


def test_a_bar_tells_of_it_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with datasets.progress("file", datasets.DownloadColumn()) as report:
        report(3_000_000, 4_000_000)
    assert "3.0/4.0 MB" in capsys.readouterr().out


@pytest.mark.parametrize("command", [datasets.prepare, partial(datasets.verify, as_json=False)])
def test_an_unknown_name_is_answered_with_the_nearest(command: object) -> None:
    assert callable(command)
    with pytest.raises(UserError, match="there is no data set 'imagnet'; did you mean 'imagenet'"):
        command("imagnet", data_dir=None)
    with pytest.raises(UserError, match="no data set 'cifar-10'; did you mean 'cifar10'"):
        command("cifar-10", data_dir=None)


def test_a_folder_has_nothing_to_download() -> None:
    Path("own").mkdir()
    with pytest.raises(UserError, match=r"own is a folder: there is nothing to download; `pictorch data verify own`"):
        datasets.prepare("own", data_dir=None)
    Path("mnist").mkdir()
    assert not datasets.is_path("mnist")
    assert datasets.is_path("./mnist")


def test_verify_official_files(capsys: pytest.CaptureFixture[str]) -> None:
    datasets.verify("digits", data_dir=None, as_json=True)
    row = json.loads(capsys.readouterr().out)
    assert (row["name"], row["official"], row["train"], row["test"]) == ("digits", True, 1442, 355)
    assert row["files"][0]["md5"] == row["files"][0]["official_md5"]
    datasets.verify("digits", data_dir=None, as_json=False)
    assert capsys.readouterr().out.endswith("digits: 1,442 training and 355 test images, the official files\n")


def test_verify_says_that_shards_are_no_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.tar").touch()
    for name in (str(tmp_path / "shards"), str(tmp_path / "shards" / "a.tar"), "https://example.org/a-{0..3}.tar"):
        with pytest.raises(UserError, match=r": these are shards, and verify looks into folders of images; "):
            datasets.verify(name, data_dir=None, as_json=False)


def test_verify_names_what_is_not_official_and_ends_with_1(cifar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets.prepare("cifar10", data_dir=None)
    path = list(BATCHES)[2]
    (cifar / path).write_bytes(other := pickle.dumps({"data": PIXELS, "labels": [0] * 20}, 2))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        datasets.verify("cifar10", data_dir=None, as_json=True)
    assert ended.value.code == 1
    row = json.loads(capsys.readouterr().out)
    assert row["name"] == f"cifar10@{row['checksum'][:8]}"
    assert [file["file"] for file in row["files"] if not file["official"]] == [path]
    assert (row["files"][2]["md5"], row["files"][2]["official_md5"]) == (md5(other), md5(BATCHES[path]))
    with pytest.raises(SystemExit):
        datasets.verify("cifar10", data_dir=None, as_json=False)
    out = capsys.readouterr().out
    assert "test images, not the official files; every result on them is named so" in out
    # However narrow the terminal, checksums are there whole.
    lines = [line.split() for line in out.splitlines()]
    assert [path, "not", "official", f"{len(other):,}", md5(other)] in lines
    assert ["expected", f"{len(BATCHES[path]):,}", md5(BATCHES[path])] in lines


def test_verify_lists_what_is_missing(cifar: Path) -> None:
    with pytest.raises(UserError, match=r"missing  cifar-10-batches-py/data_batch_1(.|\n)*`pictorch data prepare cif"):
        datasets.verify("cifar10", data_dir=None, as_json=False)


def test_verify_counts_near_duplicates(capsys: pytest.CaptureFixture[str]) -> None:
    datasets.verify("digits", data_dir=None, as_json=True, duplicates=True)
    found = json.loads(capsys.readouterr().out)["near_duplicates"]
    assert found.keys() == {"test_in_train", "other_class", "train", "test"}
    assert 0 <= found["other_class"] <= found["test_in_train"] <= 355
    datasets.verify("digits", data_dir=None, as_json=False, duplicates=True)
    assert f"{found['test_in_train']:,} test images resemble a training image" in capsys.readouterr().out


def test_show_draws_ten_images_of_every_class(cifar: Path, tmp_path: Path) -> None:
    datasets.prepare("cifar10", data_dir=None)
    datasets.show("cifar10", data_dir=None, out=None)
    with Image.open("cifar10.png") as file:
        image = file.copy()
    assert image.mode == "RGB"
    assert image.height == 10 * 66
    # Two images of a class in each of the five batches: the fourth of class 7 is the second of the second batch.
    train = data.open("cifar10", root=cifar).train
    fourth = train.images[[n for n in range(100) if n % 10 == 7][3]].permute(1, 2, 0).numpy()
    left = image.width - 10 * 66 + 3 * 66
    drawn = np.asarray(image)[7 * 66 : 7 * 66 + 64, left : left + 64]
    assert (drawn[::2, ::2] == fourth).all()
    assert (np.asarray(image)[:, :40] < 100).any(), "names stand before the images"


def test_show_is_for_any_number_of_classes_and_for_grey_images(tmp_path: Path) -> None:
    datasets.show("digits", data_dir=None, out=str(tmp_path / "d.png"))
    with Image.open(tmp_path / "d.png") as image:
        assert image.height == 10 * 50
    with pytest.raises(UserError, match=r"--out: .*none/d\.png cannot be written: No such file or directory"):
        datasets.show("digits", data_dir=None, out=str(tmp_path / "none/d.png"))
    with pytest.raises(UserError, match=r"--out: .*d\.what cannot be written: unknown file extension"):
        datasets.show("digits", data_dir=None, out=str(tmp_path / "d.what"))


def test_show_is_for_folders_too_and_the_list_names_every_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, grey in (("black", 0), ("white", 255)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(15):
            Image.new("L", (30, 20), grey).save(tmp_path / "pets" / name / f"{number:02d}.png")
    datasets.show("pets", data_dir=str(tmp_path), out=str(tmp_path / "pets.png"))
    with Image.open(tmp_path / "pets.png") as image:
        assert image.height == 2 * 98
        # below the frames, from the first to the tenth image
        assert image.getpixel((image.width - 50, 50)) == (0, 0, 0)
        assert image.getpixel((image.width - 50, 150)) == (255, 255, 255)
    datasets.listing()
    said = capsys.readouterr().out
    assert all(name in said for name in (*data.SPECS, "imagenet"))
    with pytest.raises(UserError, match="there is no data set 'cifar1'; did you mean 'cifar10'"):
        datasets.show("cifar1", data_dir=None, out=None)


def test_imagenet_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        datasets.prepare("imagenet", data_dir=str(tmp_path))
    message = str(caught.value)
    assert f"{tmp_path}/imagenet/ILSVRC2012_img_train.tar (147,897,477,120 bytes, md5 1d675b47" in message
    assert "https://image-net.org" in message
    assert imagenet.SOLUTION in message


def test_imagenet_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, images in (("train", 3), ("val", 1)):
        folder = tmp_path / "imagenet" / part / "n01440764"
        folder.mkdir(parents=True)
        for n in range(images):
            (folder / f"{n}.JPEG").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        datasets.verify("imagenet", data_dir=str(tmp_path), as_json=False)
    assert ended.value.code == 1
    assert "imagenet/train: 1 classes, 3 images, not 1,000 and 1,281,167\n" in capsys.readouterr().out
    datasets.prepare("imagenet", data_dir=str(tmp_path))
    out = capsys.readouterr().out
    assert "imagenet/val: 1 classes, 1 images, not 1,000 and 50,000\n" in out
    assert out.splitlines()[-1] == f"Next: pictorch train imagenet/resnet_50 --data-dir {tmp_path}"


@pytest.mark.real_data
def test_real_cifar100_that_deviates_is_named_so(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        dataset = data.open("cifar100", root=data.root())
    except UserError as error:
        pytest.skip(str(error).splitlines()[0])
    if dataset.official:
        pytest.skip("these are the official files")
    with pytest.raises(SystemExit):
        datasets.verify("cifar100", data_dir=None, as_json=False)
    assert f"cifar100@{dataset.checksum[:8]}: 50,000 training and 10,000 test images" in capsys.readouterr().out
