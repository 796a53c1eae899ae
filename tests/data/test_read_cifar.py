"""CIFAR batches: Python 2 and 3 pickles round trip, damaged ones are refused, hostile ones run nothing."""

import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pictorch import data
from pictorch.config.errors import UserError
from pictorch.data import files, read_cifar
from pictorch.data.checks import Arrays
from pictorch.data.specs import find

SPEC = find("cifar10")
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 3072), dtype=np.uint8)
LABELS = [3, 9, 0, 0, 5, 1, 8]
BATCH = {"data": PIXELS, "labels": LABELS, "batch_label": "training batch 1 of 5", "filenames": ["a.png"] * 7}


def python2(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2's cPickle writes it, protocol 2: `str` is bytes, arrays are rebuilt by numpy.core."""

    def string(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text

    def integer(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    dtype = b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87Rq\x06"
    dtype += b"(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87Rq\x05"
    shape = b"".join(integer(size) for size in pixels.shape) + b"\x86"
    array = empty + b"(K\x01" + shape + dtype + b"\x89" + string(pixels.tobytes()) + b"tb"
    numbers = b"]q\x02(" + b"".join(integer(label) for label in labels) + b"e"
    names = b"]q\x03(" + string(b"first.png") + b"q\x09h\x09e"
    entries = string(b"batch_label") + string(b"testing batch 1 of 1") + string(b"labels") + numbers
    return b"\x80\x02}q\x01(" + entries + string(b"data") + array + string(b"filenames") + names + b"u."


def read(raw: bytes, folder: Path, spec: Any = SPEC) -> Arrays:
    path = folder / "data_batch_1"
    path.write_bytes(raw)
    return read_cifar.read_batch(files.read(spec, spec.files[0], spec.files[0].forms[0], path))


def refusal(raw: bytes, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(raw, folder)
    assert str(folder / "data_batch_1") in str(caught.value)
    assert SPEC.files[0].forms[0].md5 in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "raw", [python2(PIXELS, LABELS), *(pickle.dumps(BATCH, protocol=p) for p in (2, 3, 4))], ids=["py2", "2", "3", "4"]
)
def test_round_trip(raw: bytes, tmp_path: Path) -> None:
    images, labels = read(raw, tmp_path)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert labels.tolist() == LABELS
    for n, image in enumerate(images):
        for c in range(3):
            plane = PIXELS[n, 1024 * c : 1024 * (c + 1)]
            assert image[c].tolist() == [plane[32 * y : 32 * (y + 1)].tolist() for y in range(32)]


def test_the_handmade_python2_batch_is_what_python_reads() -> None:
    batch = pickle.loads(python2(PIXELS, LABELS), encoding="bytes")
    assert (batch[b"data"] == PIXELS).all()
    assert batch[b"labels"] == LABELS


def test_cifar100_reads_its_fine_labels(tmp_path: Path) -> None:
    batch = {"data": PIXELS, "coarse_labels": [0] * 7, "fine_labels": [99, 0, 5, 5, 6, 7, 8]}
    assert read(pickle.dumps(batch, 2), tmp_path, find("cifar100")).labels.tolist() == batch["fine_labels"]


def test_cifar100_coarse_reads_the_coarse_labels_of_the_same_files(tmp_path: Path) -> None:
    batch = {"data": PIXELS, "coarse_labels": [19, 0, 5, 5, 6, 7, 8], "fine_labels": [99] * 7}
    assert read(pickle.dumps(batch, 2), tmp_path, find("cifar100_coarse")).labels.tolist() == batch["coarse_labels"]
    assert find("cifar100_coarse").files == find("cifar100").files


@pytest.mark.real_data
def test_real_coarse_labels_follow_from_the_fine_ones() -> None:
    spec, coarse = find("cifar100"), find("cifar100_coarse")
    file = spec.files[1]
    path = data.root() / file.forms[0].path
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    labels = [read_cifar.read_batch(files.read(s, file, file.forms[0], path)).labels.tolist() for s in (spec, coarse)]
    pairs = set(zip(*labels, strict=True))
    assert len(pairs) == 100
    names = {spec.classes[a]: coarse.classes[b] for a, b in pairs}
    assert names["maple_tree"] == "trees"
    assert names["streetcar"] == "vehicles_2"
    assert names["worm"] == "non-insect_invertebrates"


def test_batches_are_joined_in_order(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    for n, file in enumerate(SPEC.files):
        (tmp_path / file.forms[0].path).write_bytes(pickle.dumps({"data": PIXELS[n : n + 1], "labels": [n]}, 2))
    parts = read_cifar.read(files.read_all(SPEC, tmp_path))
    assert parts["train"].labels.tolist() == [0, 1, 2, 3, 4]
    assert parts["test"].labels.tolist() == [5]
    assert (parts["train"].images.reshape(5, -1) == PIXELS[:5]).all()
    assert (parts["test"].images.reshape(1, -1) == PIXELS[5:6]).all()


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        ([1, 2], "it holds no dictionary"),
        ({"labels": LABELS}, "it has no entry 'data'"),
        ({"data": PIXELS, "fine_labels": LABELS}, "it has no entry 'labels'"),
        ({"data": PIXELS, "labels": LABELS[:-1]}, "it has 6 labels for 7 images"),
        ({"data": PIXELS, "labels": [*LABELS[:-1], 10]}, "its labels go from 0 to 10"),
        ({"data": PIXELS, "labels": [*LABELS[:-1], -1]}, "its labels go from -1 to 9"),
        ({"data": PIXELS, "labels": "3900518"}, "'labels' is not a list of whole numbers"),
        ({"data": PIXELS, "labels": [True] * 7}, "'labels' is not a list of whole numbers"),
        ({"data": PIXELS[:, :-1], "labels": LABELS}, "shape (7, 3071), not (N, 3072)"),
        ({"data": PIXELS.reshape(7, 3, 1024), "labels": LABELS}, "shape (7, 3, 1024), not (N, 3072)"),
        ({"data": PIXELS.astype(np.int16), "labels": LABELS}, "'data' is not an array of bytes"),
        ({"data": np.asfortranarray(PIXELS), "labels": LABELS}, "'data' is not stored row by row"),
        ({"data": PIXELS.tobytes(), "labels": LABELS}, "'data' is not an array"),
    ],
)
def test_another_structure_is_refused(batch: object, why: str, tmp_path: Path) -> None:
    assert why in refusal(pickle.dumps(batch, 2), tmp_path)


def test_a_batch_without_images_is_refused(tmp_path: Path) -> None:
    assert "it has no images" in refusal(python2(PIXELS[:0], []), tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 100, 20_000, -1])
def test_a_truncated_batch_is_refused(keep: int, tmp_path: Path) -> None:
    assert "no readable batch" in refusal(python2(PIXELS, LABELS)[:keep], tmp_path)


class Hostile:
    """Pickled as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, exec, eval, np.load, getattr, __import__, np.ndarray, np.dtype])
def test_a_call_in_a_batch_is_refused_and_not_run(function: Any, protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code = f"touch {trace}" if function is os.system else f"open({str(trace)!r}, 'w')"
    message = refusal(pickle.dumps({"data": Hostile(function, code), "labels": LABELS}, protocol), tmp_path)
    assert "no readable batch" in message
    assert not trace.exists()


def test_the_refused_name_is_said(tmp_path: Path) -> None:
    message = refusal(pickle.dumps({"data": Hostile(os.system, "true")}, 2), tmp_path)
    assert f"{os.system.__module__}.system is named, which no batch needs; nothing was run" in message


def test_a_named_module_is_not_imported(tmp_path: Path) -> None:
    assert "antigravity" not in sys.modules
    refusal(b"\x80\x02cantigravity\nfly\n.", tmp_path)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02cnumpy\nndarray\n(K\x01tR.",  # an array of a chosen size
        b"\x80\x02cnumpy\nndarray\n)\x81.",  # NEWOBJ
        b"(cnumpy\nndarray\nK\x01o.",  # OBJ
        b"(K\x01inumpy\nndarray\n.",  # INST
        b"Pname\n.",  # PERSID
        b"\x82\x01.",  # EXT1
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # BYTEARRAY8 of 1 TB
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",  # BINBYTES8 of 4 EB
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memo index for which the C unpickler allocates 32 GB
        b"\x80\x02c_codecs\nencode\nX\x02\x00\x00\x00abX\x05\x00\x00\x00rot13\x86R.",
        b"\x80\x02c_codecs\nencode\nq\x01(X\x40\x00\x00\x00" + b"a" * 64 + b"X\x06\x00\x00\x00latin1tq\x02R0"
        b"h\x01h\x02Rh\x01h\x02Rh\x01h\x02R.",  # the same text over and over
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x01aK\x01s\x86b.",  # BUILD that sets attributes
        b"\x80\x02cnumpy\ndtype\nN}U\x04codeU\x02u1s\x86b.",
    ],
)
def test_other_tricks_are_refused(raw: bytes, tmp_path: Path) -> None:
    refusal(raw, tmp_path)
    assert "code" not in vars(read_cifar.Dtype) or not isinstance(vars(read_cifar.Dtype)["code"], bytes)


@pytest.mark.parametrize("state", [None, (), (1, 2), (1, (7, 3072), "u1", False, b""), "text"])
def test_an_array_of_a_wrong_state_is_refused(state: object) -> None:
    array = read_cifar.Array(None, None, None)
    array.__setstate__(state)
    with pytest.raises(ValueError):
        read_cifar.array_of(array)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_either_harmless_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    raw = bytearray(python2(PIXELS[:1], LABELS[:1]) if data.draw(st.booleans()) else pickle.dumps(BATCH, 4))
    plain = [at for at in range(len(raw)) if at < 400 or at > len(raw) - 200]
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.sampled_from(plain))] = data.draw(st.integers(0, 255))
    try:
        images, labels = read(bytes(raw), tmp_path)
    except UserError:
        return
    assert images.shape == (len(labels), 3, 32, 32)
    assert 0 <= labels.min() <= labels.max() <= 9
