"""The official CIFAR batches for Python (https://www.cs.toronto.edu/~kriz/cifar.html): one pickled dict a file.

A pickle is a program. This reader runs the opcodes of plain values alone, and where a batch names numpy's array,
numpy's dtype or `_codecs.encode` it puts stand-ins of its own; any other name is refused, and nothing that a file
names is ever imported or called. Batches written by Python 2 and by Python 3 (protocols 2 to 4) are read.
"""

import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pictorch.data.checks import Arrays, check
from pictorch.data.files import Content

Uint8 = npt.NDArray[np.uint8]

OPCODES = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.SHORT_BINSTRING, pickle.BINSTRING, pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8),
    *(pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
)


def read(contents: Iterable[Content]) -> dict[str, Arrays]:
    """Return {"train": ..., "test": ...}, the batches of each part joined in the order given.

    Images are uint8 [N,C,H,W], labels int64 [N]. Raises UserError naming the file that is no batch of the set.
    """
    batches: dict[str, list[Arrays]] = {"train": [], "test": []}
    for content in contents:
        batches[content.file.part].append(read_batch(content))
    return {
        part: Arrays(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))
        for part, found in batches.items()
    }


def read_batch(content: Content) -> Arrays:
    """Return the images and labels of one file. Raises UserError naming it."""
    spec = content.spec
    try:
        batch = Unpickler(content.raw).load()
    # Damaged bytes end in almost any exception of the machine that runs them, from KeyError to MemoryError.
    except Exception as error:
        raise content.damaged(f"it is no readable batch: {type(error).__name__}: {str(error)[:200]!r}") from None
    if not isinstance(batch, dict):
        raise content.damaged("it holds no dictionary")
    batch = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    for key in ("data", spec.label_key):
        if key not in batch:
            raise content.damaged(f"it has no entry {key!r}")
    labels = batch[spec.label_key]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise content.damaged(f"its entry {spec.label_key!r} is not a list of whole numbers")
    try:
        pixels = array_of(batch["data"])
    except (TypeError, ValueError) as error:
        raise content.damaged(f"its entry 'data' {error}") from None
    columns = spec.in_channels * spec.image_size**2
    if pixels.ndim != 2 or pixels.shape[1] != columns:
        raise content.damaged(f"its images have shape {pixels.shape}, not (N, {columns})")
    images = pixels.reshape(-1, spec.in_channels, spec.image_size, spec.image_size)
    return check(Arrays(images, np.array(labels, np.int64)), content)


def array_of(value: object) -> Uint8:
    """Return the uint8 array that a stand-in describes. Raises ValueError or TypeError for any other thing."""
    if not isinstance(value, Array) or not isinstance(value.state, tuple) or len(value.state) != 5:
        raise ValueError("is not an array")
    _, shape, dtype, fortran, data = value.state
    if not isinstance(dtype, Dtype) or dtype.code not in ("u1", b"u1"):
        raise ValueError("is not an array of bytes")
    if fortran or not isinstance(data, bytes):
        raise ValueError("is not stored row by row")
    return np.frombuffer(data, np.uint8).reshape(shape)


def encoder(most: int) -> Callable[[str, str], bytes]:
    """Return a stand-in for `_codecs.encode`, with which Python 3 writes bytes for Python 2: latin1, `most` in all."""
    left = most

    def encode(text: str, encoding: str) -> bytes:
        nonlocal left
        left -= len(text)
        if encoding not in ("latin1", "latin-1") or left < 0:
            raise pickle.UnpicklingError("text that no batch holds")
        return text.encode("latin1")

    return encode


class Opcodes(dict[int, Any]):
    """The pickle machine's opcodes that a batch may use, each with what runs it."""

    def __missing__(self, opcode: int) -> NoReturn:
        raise pickle.UnpicklingError(f"pickle opcode 0x{opcode:02x}, which no batch needs")


# The C unpickler can be made to allocate 32 GB by five bytes (a memo index), and its opcodes cannot be restricted;
# on a CIFAR batch, nearly all of which is one string, the one in Python takes the same time.
class Unpickler(pickle._Unpickler):
    """A reader of pickled dicts of lists, numbers, text and uint8 arrays; anything else raises."""

    dispatch = Opcodes({opcode[0]: pickle._Unpickler.dispatch[opcode[0]] for opcode in OPCODES})

    def __init__(self, raw: bytes) -> None:
        super().__init__(io.BytesIO(raw), encoding="bytes")
        encode = encoder(most=len(raw))
        self.names = {
            "numpy ndarray": "numpy.ndarray",
            "numpy dtype": Dtype,
            "numpy.core.multiarray _reconstruct": Array,
            "numpy._core.multiarray _reconstruct": Array,
            "_codecs encode": encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in self.names:
            raise pickle.UnpicklingError(f"{module}.{name} is named, which no batch needs; nothing was run")
        return self.names[f"{module} {name}"]


class Array:
    """Stands in for `numpy.core.multiarray._reconstruct(ndarray, (0,), b"b")`; the state says what it holds."""

    __slots__ = ("state",)

    def __init__(self, kind: object, shape: object, code: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class Dtype:
    """Stands in for `numpy.dtype(code, align, copy)`; its state (byte order and such) is nothing for one byte."""

    __slots__ = ("code",)

    def __init__(self, code: object, align: object, copy: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass
