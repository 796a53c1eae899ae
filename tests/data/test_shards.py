"""Shards: what a sample is, epochs as those of a folder, streams from a real server, mistakes with their names."""

import importlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pictorch.config.errors import UserError
from pictorch.data import Split, shards
from pictorch.data.loader import ResidentLoader
from pictorch.data.pipeline import Batch, Pipeline
from pictorch.data.shards import LocalShards, UrlShards, open_shards
from pictorch.data.streaming import StreamingLoader, decoded_bytes
from pictorch.data.streams import generator

SIZE, N, PER_SHARD = 8, 23, 6
SHARDS = -(-N // PER_SHARD)
LABELS = (torch.arange(N) % 3).tolist()
PIXELS = torch.randint(256, (N, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator("shards"))


def encoded(image: torch.Tensor, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format)
    return file.getvalue()


def decoded(raw: bytes) -> torch.Tensor:
    """Return uint8 [3,h,w]. Raises ValueError for what is no image."""
    try:
        with Image.open(io.BytesIO(raw)) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)
    except OSError as error:
        raise ValueError(f"this image cannot be read: {error}") from None


def write(path: Path, members: list[tuple[str, bytes]], mode: Any = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, raw in members:
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def write_all(folder: Path, label: Callable[[int], tuple[str, bytes]]) -> Path:
    """Write N images in SHARDS shards; label: number -> extension and content."""
    for shard in range(SHARDS):
        members = []
        for i in range(shard * PER_SHARD, min(N, (shard + 1) * PER_SHARD)):
            extension, raw = label(i)
            members += [(f"part/{i:04}.png", encoded(PIXELS[i])), (f"part/{i:04}.{extension}", raw)]
        write(folder / f"train-{shard:06}.tar", members)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    (folder / "classes.txt").write_text("ant\nbee\nwasp\n")
    return write_all(folder, lambda i: ("cls", str(LABELS[i]).encode()))


class Server(ThreadingHTTPServer):
    """Serves a folder; `asked` are the paths that were asked for, `broken` those that break off half-way."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.broken: set[str] = set()
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path not in self.server.broken:
            return super().do_GET()
        raw = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        # Between two members, where a tar that breaks off looks like one that ends.
        self.wfile.write(raw[: raw.index(b"part/", len(raw) // 2)])
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    if not shutil.which("curl"):
        pytest.skip("webdataset reads http by the program curl, which is not here")
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pictorch-")] == []


def pipeline() -> Pipeline:
    options: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), "crop_padding": 2, "flip": True}
    return Pipeline(num_classes=3, image_size=SIZE, device="cpu", seed=7, **options)


def loader(opened: LocalShards | UrlShards, **changes: Any) -> StreamingLoader:
    options: dict[str, Any] = {"batch_size": 4, "shuffle": True, "drop_last": False, "workers": 2}
    return StreamingLoader(read=opened, labels=opened.index.labels, pipeline=pipeline(), **(options | changes))


def same(first: list[Batch], second: list[Batch]) -> bool:
    assert len(first) == len(second)
    return all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def resident(shuffle: bool) -> ResidentLoader:
    split = Split(PIXELS, torch.tensor(LABELS))
    return ResidentLoader(split=split, pipeline=pipeline(), batch_size=4, shuffle=shuffle, drop_last=False)


def brace(place: Path | str) -> str:
    return f"{place}/train-{{000000..{SHARDS - 1:06}}}.tar"


@pytest.mark.parametrize("pattern", ["{}", "{}/*.tar", "{}/train-00000[0-9].tar", "brace"])
def test_local_shards_give_the_resident_batches(folder: Path, pattern: str) -> None:
    opened = open_shards(brace(folder) if pattern == "brace" else pattern.format(folder), decode=decoded)
    assert isinstance(opened, LocalShards)
    assert opened.index.classes == ("ant", "bee", "wasp")
    for shuffle in (False, True):
        assert same(list(loader(opened, shuffle=shuffle).epoch(1)), list(resident(shuffle).epoch(1)))


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        (lambda i: ("cls", f"{LABELS[i]}\n".encode()), ("0", "1", "2")),
        (lambda i: ("txt", str(LABELS[i]).encode()), ("0", "1", "2")),
        (lambda i: ("txt", "abc"[LABELS[i]].encode()), ("a", "b", "c")),
        (lambda i: ("json", str(LABELS[i]).encode()), ("0", "1", "2")),
        (lambda i: ("json", json.dumps({"label": "abc"[LABELS[i]], "width": 8}).encode()), ("a", "b", "c")),
        (lambda i: ("json", json.dumps({"label": LABELS[i]}).encode()), ("0", "1", "2")),
    ],
)
def test_labels_of_every_kind(
    tmp_path: Path, label: Callable[[int], tuple[str, bytes]], classes: tuple[str, ...]
) -> None:
    index = open_shards(str(write_all(tmp_path, label)), decode=decoded).index
    assert (index.labels.tolist(), index.classes) == (LABELS, classes)


def test_class_names_beside_the_shards_number_the_labels(tmp_path: Path) -> None:
    write_all(tmp_path, lambda i: ("txt", "abc"[LABELS[i]].encode()))
    (tmp_path / "classes.json").write_text('["c", "z", "b", "a"]')
    index = open_shards(str(tmp_path), decode=decoded).index
    assert index.classes == ("c", "z", "b", "a")
    assert index.labels.tolist() == [{0: 3, 1: 2, 2: 0}[label] for label in LABELS]
    assert open_shards(str(tmp_path), decode=decoded, classes=("a", "b", "c")).index.labels.tolist() == LABELS
    (tmp_path / "classes.json").write_text('["a", "b"]')
    with pytest.raises(UserError, match="the label 'c' is not of its 2 classes, 0 to 1"):
        open_shards(str(tmp_path), decode=decoded)
    (tmp_path / "classes.json").write_text('{"a": 0}')
    with pytest.raises(UserError, match=r'classes\.json: expected a list of class names, \["ant", "bee"\]'):
        open_shards(str(tmp_path), decode=decoded)
    (tmp_path / "classes.txt").write_text("a\nb\na\n")
    with pytest.raises(UserError, match=r"classes\.txt: a class name comes twice: 'a'"):
        open_shards(str(tmp_path), decode=decoded)


def test_what_is_no_sample_is_passed_over_and_every_format_read(tmp_path: Path) -> None:
    jpeg, webp = (encoded(PIXELS[0], format) for format in ("JPEG", "WEBP"))
    members = [
        ("README.md", b"shards"),
        ("._a.jpg", b"of a Mac"),
        ("__key__.cls", b"0"),
        ("x/a.JPEG", jpeg),
        ("x/a.cls", b"1"),
        ("x/a.txt", b"a caption\nof two lines"),
        ("x/a.json", b"{}"),
        ("y/a.cls", b"0"),
        ("y/a.webp", webp),
    ]
    opened = open_shards(str(write(tmp_path / "a.tar", members)), decode=decoded)
    assert isinstance(opened, LocalShards)
    assert opened.index.labels.tolist() == [1, 0]
    assert [opened.raw(0), opened.raw(1)] == [jpeg, webp]
    assert opened(0).shape == (3, SIZE, SIZE)
    assert decoded_bytes(lambda i: io.BytesIO(opened.raw(i)), 2, channels=3) == 2 * 3 * SIZE * SIZE


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", b"")], r"sample 'a' has no label \(cls, json, txt\)"),
        ([("a.cls", b"1")], r"sample 'a' has no image \(jpg, jpeg, png, webp\)"),
        ([("a.png", b""), ("a.jpg", b""), ("a.cls", b"1")], r"sample 'a' has two images, a\.png and a\.jpg"),
        ([("a.png", b""), ("a.cls", b"ant")], "the label of sample 'a', its cls: expected a class number .* got 'ant'"),
        ([("a.png", b""), ("a.cls", b"-1")], "its cls: expected a class number from 0 on, got '-1'"),
        ([("a.png", b""), ("a.txt", b"")], "its txt: expected a class number from 0 on, or a class name, got ''"),
        ([("a.png", b""), ("a.json", b'{"lable": 1}')], "its json: expected .* got '{\"lable\": 1}'"),
        ([("a.png", b""), ("a.json", b"true")], "its json: expected .* got 'true'"),
        ([("a.png", b""), ("a.txt", b"a"), ("b.png", b""), ("b.cls", b"1")], r"class names \('a'\) and some numbers"),
        ([("a.text", b"1")], "hold no images with labels"),
    ],
)
def test_samples_that_are_none_are_named_with_their_shard(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    with pytest.raises(UserError, match=rf"s\.tar: .*{message}"):
        open_shards(str(write(tmp_path / "s.tar", members)), decode=decoded)


def test_shards_that_are_missing_or_no_tar_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"no shards there; expected \.tar files"):
        open_shards(str(tmp_path), decode=decoded)
    with pytest.raises(UserError, match=rf"there is no shard .*train-{SHARDS:06}\.tar and 2 more"):
        open_shards(f"{folder}/train-{{000000..{SHARDS + 2:06}}}.tar", decode=decoded)
    text = tmp_path / "text.tar"
    text.write_text("not a tar" * 200)
    with pytest.raises(UserError, match=r"text\.tar: this is not a whole tar file"):
        open_shards(str(text), decode=decoded)
    packed = write(tmp_path / "a.tar.gz", [("a.png", b""), ("a.cls", b"1")], "w:gz")
    with pytest.raises(UserError, match=r"a\.tar\.gz: .* a compressed one has to be unpacked first"):
        open_shards(str(packed), decode=decoded)
    whole = (folder / "train-000000.tar").read_bytes()
    # In the pixels, in a header, between two members.
    for more in (700, 100, 0):
        (tmp_path / "torn.tar").write_bytes(whole[: whole.index(b"part/0003.png") + more])
        with pytest.raises(UserError, match=r"torn\.tar: this is not a whole tar file"):
            open_shards(str(tmp_path / "torn.tar"), decode=decoded)


def test_a_corrupt_image_is_named_with_its_shard(tmp_path: Path) -> None:
    members = [("a.png", encoded(PIXELS[0])), ("a.cls", b"0"), ("b.png", b"torn"), ("b.cls", b"1")]
    path = write(tmp_path / "s.tar", members)
    for place in (str(path), f"pipe:cat {path}"):
        with pytest.raises(UserError, match=r"s\.tar: b\.png: this image cannot be read"):
            list(loader(open_shards(place, decode=decoded), shuffle=False, batch_size=1).epoch(0))


def test_a_shard_that_was_cut_meanwhile_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tar", [("a.cls", b"0"), ("a.png", encoded(PIXELS[0]))])
    opened = open_shards(str(path), decode=decoded)
    path.write_bytes(path.read_bytes()[:1600])
    with pytest.raises(UserError, match=r"s\.tar: this shard is shorter than it was"):
        opened(0)  # type: ignore[operator]


def test_the_checksum_knows_names_sizes_and_labels(tmp_path: Path) -> None:
    def checksum(*members: tuple[str, bytes]) -> str:
        return open_shards(str(write(tmp_path / "s.tar", list(members))), decode=decoded).index.checksum

    first = checksum(("a.png", b"123"), ("a.cls", b"1"))
    assert checksum(("a.png", b"123"), ("a.cls", b"1"), ("readme", b"")) == first
    others = [
        checksum(("b.png", b"123"), ("b.cls", b"1")),
        checksum(("a.png", b"1234"), ("a.cls", b"1")),
        checksum(("a.png", b"123"), ("a.cls", b"2")),
    ]
    assert len({first, *others}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_from_a_server_in_order_give_the_resident_batches(server: Server, workers: int) -> None:
    opened = open_shards(brace(server.url), decode=decoded)
    assert isinstance(opened, UrlShards)
    assert opened.index.classes == ("ant", "bee", "wasp")
    assert same(list(loader(opened, shuffle=False, workers=workers).epoch(1)), list(resident(False).epoch(1)))


def test_epochs_from_a_server_are_every_image_once_in_the_order_that_is_known_before(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "BUFFER", 5)
    opened = open_shards(brace(server.url), decode=decoded)
    orders = [loader(opened).order(epoch) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(N)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    for workers in (0, 2):
        batches = list(loader(opened, workers=workers).epoch(1))
        assert torch.cat([batch.labels for batch in batches]).tolist() == [LABELS[i] for i in orders[1]]
        by_hand = resident(True)
        monkeypatch.setattr(by_hand, "order", orders.__getitem__)
        assert same(batches, list(by_hand.epoch(1)))


def test_a_resumed_epoch_from_a_server_opens_only_the_shards_that_it_needs(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "BUFFER", 3)
    opened = open_shards(brace(server.url), decode=decoded)
    whole = list(loader(opened).epoch(2))
    for start in (0, 2, 5, len(whole)):
        server.asked.clear()
        assert same(list(loader(opened).epoch(2, start_batch=start)), whole[start:])
        needed = {int(opened.index.places[i, 0]) for i in loader(opened).order(2)[4 * start :]}
        assert sorted(server.asked) == sorted(f"/train-{shard:06}.tar" for shard in needed)
    assert len(needed) < SHARDS


def test_the_order_of_a_stream_holds_back_no_more_than_its_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BUFFER", 50)
    sizes = [40, 7, 300, 1, 120, 60]
    places = torch.tensor([(shard, 512 * i, 9) for shard, n in enumerate(sizes) for i in range(n)])
    n = len(places)
    index = shards.Index(tuple("abcdef"), places, torch.zeros(n, dtype=torch.int64), ("0",), "")
    source = UrlShards(index, decode=decoded)
    for seed in range(20):
        order = source.order(generator(seed))
        assert sorted(order.tolist()) == list(range(n))
        runs = places[order, 0]
        # The shards, in the order in which they come.
        ranks = sorted(range(6), key=lambda shard: float((runs == shard).nonzero().float().mean()))
        sequence = torch.cat([(places[:, 0] == shard).nonzero()[:, 0] for shard in ranks])
        came = torch.empty(n, dtype=torch.int64)
        came[sequence] = torch.arange(n)
        # To use order[k], all up to its place have come; of these, k + 1 are used.
        held = came[order].cummax(0).values + 1 - torch.arange(1, n + 1)
        assert held.max() <= 2 * 50
        assert (order.diff() != 1).float().mean() > 0.8


def test_a_stream_that_is_left_early_leaves_nothing_open(server: Server) -> None:
    # A pipe that was not closed would warn, and warnings are errors.
    epoch = loader(open_shards(brace(server.url), decode=decoded)).epoch(0)
    next(epoch)
    del epoch


def test_a_server_that_refuses_breaks_off_or_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(UserError, match=r"http://.*/missing\.tar: the server refuses it, .* \(404: it is not there\)"):
        open_shards(f"{server.url}/missing.tar", decode=decoded)
    opened = open_shards(brace(server.url), decode=decoded)
    server.broken.add("/train-000001.tar")
    with pytest.raises(UserError, match=r"train-000001\.tar: the transfer broke off"):
        open_shards(brace(server.url), decode=decoded)
    with pytest.raises(UserError, match=r"train-000001\.tar: the transfer broke off"):
        list(loader(opened).epoch(0))
    with pytest.raises(UserError, match=r"a\.tar: the host takes no connection"):
        open_shards("http://127.0.0.1:9/a.tar", decode=decoded)
    with pytest.raises(UserError, match=r"classes\.txt: this is not a whole tar file"):
        open_shards(f"{server.url}/classes.txt", decode=decoded)


def test_a_shard_that_changed_on_the_server_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tar", [("a.png", encoded(PIXELS[0])), ("a.cls", b"0")])
    opened = open_shards(f"pipe:cat {path}", decode=decoded)
    write(path, [("a.png", encoded(PIXELS[0], "JPEG")), ("a.cls", b"0")])
    with pytest.raises(UserError, match="this shard is not what it was when it was indexed"):
        list(loader(opened).epoch(0))


def test_a_command_that_fails_is_named() -> None:
    with pytest.raises(UserError, match="pipe:exit 3: its command ended with status 3"):
        open_shards("pipe:exit 3", decode=decoded)


def test_what_webdataset_cannot_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"gopher://a/b\.tar: webdataset cannot open it"):
        open_shards("gopher://a/b.tar", decode=decoded)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/a\.tar: to read it needs the program curl"):
        open_shards("http://127.0.0.1:9/a.tar", decode=decoded)


def test_without_webdataset_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "webdataset":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    assert len(open_shards(str(folder), decode=decoded).index.labels) == N
    for pattern in (brace(folder), "http://127.0.0.1:9/a.tar"):
        with pytest.raises(UserError, match=r"webdataset: pip install 'pictorch\[shards\]'"):
            open_shards(pattern, decode=decoded)


def test_an_index_file_saves_the_first_pass_as_long_as_the_shards_are_the_same(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "index.json"
    first = open_shards(brace(server.url), decode=decoded, index_file=file).index
    server.asked.clear()
    again = open_shards(brace(server.url), decode=decoded, index_file=file).index
    assert server.asked == ["/classes.txt"]
    assert torch.equal(first.places, again.places)
    assert torch.equal(first.labels, again.labels)
    assert (first.shards, first.classes, first.checksum) == (again.shards, again.classes, again.checksum)
    open_shards(f"{server.url}/train-000000.tar", decode=decoded, index_file=file)
    assert "/train-000000.tar" in server.asked
    file.write_text("{")
    assert open_shards(brace(server.url), decode=decoded, index_file=file).index.checksum == first.checksum
    with pytest.raises(UserError, match="the index of the shards cannot be written: No such file"):
        open_shards(brace(server.url), decode=decoded, index_file=tmp_path / "none" / "index.json")


def test_an_index_file_of_local_shards_is_not_used_after_a_change(tmp_path: Path) -> None:
    path, file = tmp_path / "s.tar", tmp_path / "index.json"
    for label in (b"1", b"2"):
        write(path, [("a.png", encoded(PIXELS[0])), ("a.cls", label)])
        os.utime(path, ns=(0, int(label)))
        for _ in range(2):
            assert open_shards(str(path), decode=decoded, index_file=file).index.labels.tolist() == [int(label)]
