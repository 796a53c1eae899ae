"""One pass over a map where torch takes several: machine code for the CPU, made by LLVM when it is first needed.

    run("normalise", grid, [x], [scale, offset], "relu")                   relu(x * scale + offset), in a single pass

LLVM comes with the package llvmlite, as a library and not as a compiler to install. A map [N,C,H,W] in channels_last
order is a table in memory, with a whole number of pixels in a row, so that a column belongs to one channel. What is
computed is float32, rounded to nearest even where the map is bfloat16. Sums are taken within chunks of rows that depend
on the table alone, so results are the same with any number of threads. The threads are those of torch's own OpenMP
pool: a second pool would fight with it for the cores.
"""

import ctypes
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import lcm
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

try:
    from llvmlite import binding, ir
except ImportError:  # Extra `fast`; without it `available` says no.
    binding = ir = None

Kind = Literal["bf16", "f32"]
Activation = Literal["none", "relu", "relu6"]
# A value or a builder of llvmlite, which has no types of its own
Value = Any
Builder = Any
# Builder, activation, a value of each map and of each row -> the value of the map put out, or what is added to the sums
Body = Callable[[Builder, Activation, Sequence[Value], Sequence[Value]], list[Value]]

KINDS: dict[torch.dtype, Kind] = {torch.bfloat16: "bf16", torch.float32: "f32"}
LANES = 16
CHUNK_ELEMENTS = 65536
# Of fewer rows than this the sums would be as long as what is summed.
CHUNK_ROWS = 128
# The rows of a narrower table would be mostly loop.
NARROWEST = 64
# The sums of a wider table leave no room in the first-level cache.
WIDEST = 4096
# Numbers that a kernel is called with before the addresses of its tables.
SETTINGS = 5


class Grid(NamedTuple):
    """A map as a table: rows, columns, rows of a chunk."""

    rows: int
    width: int
    chunk: int

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.chunk)


class Pass(NamedTuple):
    """How many maps and rows a pass reads, how many sums it takes (0: it puts out a map), and what it computes."""

    maps: int
    rows: int
    sums: int
    body: Body


def grid_of(x: Tensor) -> Grid | None:
    """Return the table that x [N,C,H,W] in channels_last order is; None if its rows are not whole, or too wide."""
    width = lcm(x.shape[1], LANES)
    wider = width * max(1, NARROWEST // width)
    width = width if x.numel() % wider else wider
    if x.numel() == 0 or x.numel() % width or width > WIDEST:
        return None
    return Grid(x.numel() // width, width, max(CHUNK_ROWS, CHUNK_ELEMENTS // width))


@cache
def available() -> bool:
    """Return whether kernels can be made here: with llvmlite, and a torch whose OpenMP pool takes work of others."""
    return binding is not None and _parallel() is not None


def maker() -> str | None:
    """Return what makes the kernels, with its version; None where there are none."""
    return f"llvmlite {importlib.metadata.version('llvmlite')}" if available() else None


def run(
    name: str, grid: Grid, maps: Sequence[Tensor], rows: Sequence[Tensor], activation: Activation = "none"
) -> Tensor:
    """Return the map of a pass, or its sums float32 [chunks, sums, width].

    `maps` are of one dtype, shape and channels_last order, that of `grid`; `rows` are float32 [width], contiguous.
    """
    out = torch.empty_like(maps[0])
    if sums := PASSES[name].sums:
        out = maps[0].new_empty((grid.chunks, sums, grid.width), dtype=torch.float32)
    address, function, _ = _compiled(name, KINDS[maps[0].dtype], activation)
    tables = [table.data_ptr() for table in (*maps, *rows, out)]
    arguments = (ctypes.c_int64 * (SETTINGS + len(tables)))(grid.chunks, 0, grid.rows, grid.width, grid.chunk, *tables)
    threads, parallel = torch.get_num_threads(), _parallel()
    if threads == 1 or grid.chunks == 1 or parallel is None:
        function(ctypes.addressof(arguments))
    else:
        parallel(address, ctypes.addressof(arguments), threads, 0)
    return out


@cache
def _parallel() -> Callable[[int, int, int, int], None] | None:
    """Return GOMP_parallel(function, argument, threads, flags) of the OpenMP library that torch itself uses, if any."""
    if os.name != "posix":
        return None
    try:
        # Looked up in what torch was linked to, whatever its name: any other copy would have a pool of its own.
        function = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return function


# ---- What the passes compute ----


def moments(b: Builder, activation: Activation, maps: Sequence[Value], rows: Sequence[Value]) -> list[Value]:
    """x; shift -> sums of x - shift and of its square."""
    difference = b.fsub(maps[0], rows[0])
    return [difference, b.fmul(difference, difference)]


def normalise(b: Builder, activation: Activation, maps: Sequence[Value], rows: Sequence[Value]) -> list[Value]:
    """x; scale, offset -> activation(x * scale + offset)."""
    out = b.fadd(b.fmul(maps[0], rows[0]), rows[1])
    if activation != "none":
        # Compared this way round, not-a-number stays.
        out = b.select(b.fcmp_ordered("<", out, _floats(0)), _floats(0), out)
    if activation == "relu6":
        out = b.select(b.fcmp_ordered(">", out, _floats(6)), _floats(6), out)
    return [out]


def before_activation(b: Builder, activation: Activation, maps: Sequence[Value], rows: Sequence[Value]) -> Value:
    """x, gradient; scale, offset -> the gradient of what `normalise` activates."""
    if activation == "none":
        return maps[1]
    out = b.fadd(b.fmul(maps[0], rows[0]), rows[1])
    passes = b.fcmp_ordered(">", out, _floats(0))
    if activation == "relu6":
        passes = b.and_(passes, b.fcmp_ordered("<", out, _floats(6)))
    return b.select(passes, maps[1], _floats(0))


def sums(b: Builder, activation: Activation, maps: Sequence[Value], rows: Sequence[Value]) -> list[Value]:
    """x, gradient; scale, offset, mean -> sums of g and of g * (x - mean), g being the gradient before_activation."""
    g = before_activation(b, activation, maps, rows)
    return [g, b.fmul(g, b.fsub(maps[0], rows[2]))]


def gradient(b: Builder, activation: Activation, maps: Sequence[Value], rows: Sequence[Value]) -> list[Value]:
    """x, gradient; scale, offset, slope, constant -> g * scale + x * slope + constant, g as in `sums`."""
    g = before_activation(b, activation, maps, rows)
    return [b.fadd(b.fmul(g, rows[0]), b.fadd(b.fmul(maps[0], rows[2]), rows[3]))]


PASSES = {
    "moments": Pass(1, 1, 2, moments),
    "normalise": Pass(1, 2, 0, normalise),
    "sums": Pass(2, 3, 2, sums),
    "gradient": Pass(2, 4, 0, gradient),
}


# ---- How they become machine code ----


@cache
def _compiled(name: str, kind: Kind, activation: Activation) -> tuple[int, Callable[[int], None], Any]:
    """Return the address of a kernel, the kernel as a function of its argument's, and the engine that keeps it."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    # LLVM halves vectors of 512 bits on some CPUs that have them unless told not to.
    features = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3
    )
    module = binding.parse_assembly(str(_module(PASSES[name], kind, activation)))
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    address = engine.get_function_address("kernel")
    return address, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), engine


def _module(what: Pass, kind: Kind, activation: Activation) -> Value:
    """Return kernel(arguments), in which every thread takes the next chunk until there is none.

    arguments: int64 chunks, chunks taken, rows, columns, rows of a chunk; then the addresses of tables.
    """
    module = ir.Module()
    kernel = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()]), "kernel")
    b = ir.IRBuilder(kernel.append_basic_block())
    places = [b.gep(kernel.args[0], [_int(i)], source_etype=_INT) for i in range(SETTINGS + what.maps + what.rows + 1)]
    chunks, _, rows, width, per_chunk = (b.load(place, typ=_INT) for place in places[:SETTINGS])
    tables = [b.load(place, typ=ir.PointerType()) for place in places[SETTINGS:]]
    again, work, done = (kernel.append_basic_block() for _ in range(3))
    b.branch(again)
    b.position_at_end(again)
    chunk = b.atomic_rmw("add", places[1], _int(1), "monotonic")
    b.cbranch(b.icmp_signed("<", chunk, chunks), work, done)
    b.position_at_end(done)
    b.ret_void()
    b.position_at_end(work)
    first = b.mul(chunk, per_chunk)
    last = b.add(first, per_chunk)
    last = b.select(b.icmp_signed("<", last, rows), last, rows)
    if what.sums:
        size = b.mul(width, _int(what.sums))
        tables[-1] = b.gep(tables[-1], [b.mul(chunk, size)], source_etype=ir.FloatType())
        with _loop(b, _int(0), size, LANES) as column:
            _store(b, "f32", _floats(0), tables[-1], column)
    with _loop(b, first, last, 1) as row, _loop(b, _int(0), width, LANES) as column:
        _step(b, what, kind, activation, tables, b.add(b.mul(row, width), column), column, width)
    b.branch(again)
    return module


def _step(
    b: Builder,
    what: Pass,
    kind: Kind,
    activation: Activation,
    tables: Sequence[Value],
    at: Value,
    column: Value,
    width: Value,
) -> None:
    """Write what is done with the lanes at a place of the maps, in a column."""
    maps, rows, out = tables[: what.maps], tables[what.maps : -1], tables[-1]
    values = what.body(
        b, activation, [_load(b, kind, table, at) for table in maps], [_load(b, "f32", row, column) for row in rows]
    )
    if not what.sums:
        _store(b, kind, values[0], out, at)
        return
    for i, value in enumerate(values):
        place = b.add(b.mul(width, _int(i)), column)
        _store(b, "f32", b.fadd(_load(b, "f32", out, place), value), out, place)


@contextmanager
def _loop(b: Builder, first: Value, last: Value, step: int) -> Iterator[Value]:
    """Write what the block writes as the body of a loop over the yielded number."""
    before = b.block
    head, body, after = (b.function.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    number = b.phi(_INT)
    number.add_incoming(first, before)
    b.cbranch(b.icmp_signed("<", number, last), body, after)
    b.position_at_end(body)
    yield number
    number.add_incoming(b.add(number, _int(step)), b.block)
    b.branch(head)
    b.position_at_end(after)


def _load(b: Builder, kind: Kind, table: Value, at: Value) -> Value:
    """Write the load of float32 lanes from a place of a table."""
    if kind == "f32":
        return b.load(b.gep(table, [at], source_etype=ir.FloatType()), typ=_vector(ir.FloatType()), align=4)
    place = b.gep(table, [at], source_etype=ir.IntType(16))
    halves = b.zext(b.load(place, typ=_vector(ir.IntType(16)), align=2), _vector(ir.IntType(32)))
    return b.bitcast(b.shl(halves, _ints(16)), _vector(ir.FloatType()))


def _store(b: Builder, kind: Kind, value: Value, table: Value, at: Value) -> None:
    """Write the store of float32 lanes to a place of a table."""
    if kind == "f32":
        b.store(value, b.gep(table, [at], source_etype=ir.FloatType()), align=4)
        return
    # To nearest even, in whole numbers since CPUs differ in what else they have. The only not-a-numbers that this makes
    # finite are some that neither bfloat16 nor arithmetic has.
    bits = b.bitcast(value, _vector(ir.IntType(32)))
    odd = b.and_(b.lshr(bits, _ints(16)), _ints(1))
    rounded = b.lshr(b.add(b.add(bits, odd), _ints(0x7FFF)), _ints(16))
    b.store(b.trunc(rounded, _vector(ir.IntType(16))), b.gep(table, [at], source_etype=ir.IntType(16)), align=2)


def _vector(of: Value) -> Value:
    return ir.VectorType(of, LANES)


def _int(number: int) -> Value:
    return ir.Constant(_INT, number)


def _ints(number: int) -> Value:
    return ir.Constant(_vector(ir.IntType(32)), [number] * LANES)


def _floats(number: float) -> Value:
    return ir.Constant(_vector(ir.FloatType()), [float(number)] * LANES)


_INT = ir.IntType(64) if ir is not None else None
