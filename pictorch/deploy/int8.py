"""Post-training quantisation of an ONNX graph to 8 bits: onnxruntime's, static, by ranges seen on training images.

Weights are int8 with a scale for each output channel, activations uint8 with one for each tensor (minimum and maximum
over the calibration images), written as pairs of QuantizeLinear and DequantizeLinear around the operations, which the
runtime fuses. The logits and the softmax stay in float32: 256 levels would tie classes.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pictorch.deploy.drafts import OnnxDraft, packages, quiet
from pictorch.deploy.exported import session

# What has an integer kernel, and what passes integers on.
OPERATIONS = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "BatchNormalization", "Relu", "Clip", "MaxPool", "AveragePool",
    "GlobalAveragePool", "Concat", "Pad", "Slice", "Split", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze",
)  # fmt: skip
AT_ONCE = 50  # images of calibration, of which all activations lie in memory
BATCHES_TIMED = (1, 64)
ROUNDS = 15


def quantise(draft: OnnxDraft, batches: Iterable[Tensor]) -> OnnxDraft:
    """Return the graph in int8, calibrated on batches of images as the graph takes them."""
    runtime, onnx = packages()["onnxruntime"], packages()["onnx"]
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    assert runtime.quantization is quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {"images": images.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder, quiet():
        plain, prepared, done = (Path(folder) / name for name in ("plain.onnx", "prepared.onnx", "int8.onnx"))
        plain.write_bytes(draft.model.SerializeToString())
        # Folds each norm into the convolution before it, which leaves less to round.
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            done,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATIONS),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        return OnnxDraft(onnx.load(done))


def latencies(files: Sequence[Path], images: Tensor, *, threads: int = 1) -> list[dict[str, Any]]:
    """Return for each size of batch the milliseconds of each file in interleaved rounds: medians, and their ratio.

    `images` as the files take them; fewer than a batch has are repeated. The ratio is the last file's time by the
    first one's.
    """
    sessions = [session(file, threads) for file in files]
    cpu = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    rows = []
    for size in BATCHES_TIMED:
        batch = {"images": images[[i % len(images) for i in range(size)]].contiguous().numpy()}
        rounds: list[list[float]] = [[] for _ in sessions]
        for _ in range(ROUNDS + 1):
            for each, times in zip(sessions, rounds, strict=True):
                begun = time.perf_counter()
                each.run(None, batch)
                times.append(1000 * (time.perf_counter() - begun))
        medians = [statistics.median(times[1:]) for times in rounds]  # the first round warms up
        ratio = medians[-1] / medians[0]
        rows.append({"batch": size, "threads": threads, "cpu": cpu, "milliseconds": medians, "ratio": ratio})
    return rows
