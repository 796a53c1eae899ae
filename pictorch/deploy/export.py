"""A finished run as one file for use elsewhere, kept only if it answers the test images as the run's network does.

The file is written to a temporary place, read back from there by its own runtime, asked all test images, given what
that showed among its metadata, and only then renamed to its own name.
"""

import copy
import datetime
import errno
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

import pictorch
from pictorch import data, runs
from pictorch.config import UserError
from pictorch.config.errors import nearest
from pictorch.deploy import drafts, exported, int8, parity
from pictorch.deploy.drafts import Draft, Graph, OnnxDraft, Preprocessing, ProgramDraft, WeightsDraft
from pictorch.deploy.exported import SUFFIXES, Exported
from pictorch.deploy.parity import Answers, Batches, Refused
from pictorch.deploy.predict import Predictor, normalisation
from pictorch.models import views as of_images
from pictorch.models import weights
from pictorch.models.foreign import is_foreign
from pictorch.runs import RunDir

Format = Literal["onnx", "torch-export", "safetensors"]

VERSION = 1  # of the metadata under "export", "run", "licence" and "check"
NOT_STATED = "not stated"
FROM_RESULT = (
    "recipe", "config_hash", "seed", "complete", "epochs", "steps", "params", "macs", "selection", "averaged", "views",
    "test_images", "test_error", "test_top1", "test_top5", "test_loss", "val_top1", "precision", "torch", "commit",
    "data_checksum", "finished",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is to be exported. Raises UserError for what contradicts itself.

    `out` is the file (None: in the run directory); `int8` adds an ONNX file in 8 bits, `half` stores safetensors in 16;
    either may lose `max_loss` percentage points of top-1. `licence` is that of the weights.
    """

    format: Format = "onnx"
    out: Path | None = None
    preprocessing: Preprocessing = "inside"
    licence: str | None = None
    int8: bool = False
    half: bool = False
    max_loss: float = 1.0
    unchecked: bool = False

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--format", self.format, get_args(Format)),
            ("--preprocessing", self.preprocessing, get_args(Preprocessing)),
        ):
            if value not in known:
                raise UserError(f"{option}: there is no {value!r}{nearest(str(value), known)}")
        if self.int8 and self.format != "onnx":
            raise UserError(f"--int8: this is for --format onnx, got {self.format}")
        if self.half and self.format != "safetensors":
            raise UserError(f"--half: this is for --format safetensors, got {self.format}; --int8 is for onnx")
        if self.format == "safetensors" and self.preprocessing == "beside":
            raise UserError("--preprocessing: safetensors hold no graph: mean and std are always among the metadata")
        if self.unchecked and (self.int8 or self.half):
            option = "--int8" if self.int8 else "--half"
            raise UserError(f"{option}: what it costs has to be measured on the test images: leave --unchecked out")
        if not (math.isfinite(self.max_loss) and 0 <= self.max_loss <= 100):
            raise UserError(f"--max-loss: expected percentage points from 0 to 100, got {self.max_loss:g}")
        if self.licence is not None and not self.licence.strip():
            raise UserError("--licence: expected a text such as CC-BY-4.0, got an empty one")

    def files(self, run: RunDir) -> list[Path]:
        """Return the files that will be written, the one in float32 first."""
        suffix = SUFFIXES[self.format]
        first = self.out or run.exports / f"model{'.half' * self.half}{suffix}"
        return [first, first.with_suffix(f".int8{suffix}")] if self.int8 else [first]


@dataclass(frozen=True)
class Written:
    """An exported file: where it lies, and the metadata that it holds."""

    path: Path
    metadata: dict[str, Any]

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size


@dataclass(frozen=True, eq=False)
class Source:
    """A finished run, what is asked of it, and what the files will say but for their check.

    `predictor` is the run as `pictorch predict` uses it, which the files are held against.
    """

    run: RunDir
    request: Request
    predictor: Predictor
    metadata: dict[str, Any]
    files: list[Path]


def open_source(run: RunDir, request: Request) -> Source:
    """Read a run and look whether its files can be written; writes nothing.

    Raises UserError where the run is not finished, a package is missing, or a file is in the way.
    """
    files = request.files(run)
    if request.format == "onnx":
        drafts.packages()
    for path in files:
        check_target(path, SUFFIXES[request.format])
    result = runs.read_result(run)
    predictor = Predictor(run.path)
    return Source(run, request, predictor, described(run, request, predictor.metadata, result), files)


def check_target(path: Path, suffix: str) -> None:
    """Raise UserError unless the file can be written: its folder lets us, and it is not there or an export of ours."""
    if path.suffix != suffix:
        raise UserError(f"--out: {path}: expected a file name that ends in {suffix}, as its format's do")
    if path.is_dir():
        raise UserError(
            f"--out: {path}: this is a directory; expected the name of a file, for example {path / 'model'}"
        )
    if (path.exists() or path.is_symlink()) and exported.read_metadata(path) is None:
        raise UserError(
            f"{path}: this file is not one that `pictorch export` wrote and stays as it is; give another --out"
        )
    with runs.explained(path):
        there = next(place for place in path.absolute().parents if place.exists())
        if not there.is_dir():
            raise UserError(f"--out: {path}: {there} is a file, not a directory")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def described(run: RunDir, request: Request, metadata: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return what an exported file says of itself, but for its check: plain values, as docs/export.md lists them."""
    size, channels = metadata["image_size"], metadata["in_channels"]
    inside = request.preprocessing == "inside"
    env = runs.read_json(run.env)
    settings = metadata.get("config", {})
    views = settings.get("evaluation", {}).get("views", "one")
    known = data.SPECS.get(settings.get("data", {}).get("name", ""))
    kept = dict(metadata)
    if settings:
        kept["config"] = without_places(settings)
    if inside and request.format != "safetensors":
        kept.pop("mean_image", None)  # as large as an image, and in the graph
    return kept | {
        "export": {
            "version": VERSION,
            "format": request.format,
            "suffix": SUFFIXES[request.format],
            "preprocessing": request.preprocessing,
            "input": {
                "name": "images",
                "dtype": "uint8" if inside else "float32",
                "shape": ["N", channels, size, size],
                "channels": "grey" if channels == 1 else "RGB",
                "values": "0 to 255" if inside else "(pixel / 255 - mean) / std",
            },
            "outputs": {name: ["N", metadata["num_classes"]] for name in ("probabilities", "logits")},
            "views": views,
            "opset": drafts.OPSET if request.format == "onnx" else None,
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "by": versions(request),
        },
        "run": {
            **{key: result[key] for key in FROM_RESULT},
            "dirty": env.get("dirty"),
            "source_sha256": env.get("source_sha256"),
            "weights_sha256": metadata["sha256"],
        },
        "licence": {
            "weights": request.licence or NOT_STATED,
            "code": code_licence(metadata["model"]),
            "dataset": known.licence if known else NOT_STATED,
            "dataset_attribution": known.attribution if known else NOT_STATED,
        },
        "check": {"images": 0},
    }


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's configuration without the places of its machine: of a path the last part, no root, no tracker."""
    kept: dict[str, Any] = copy.deepcopy(config)
    for block, key in (("data", "name"), ("model", "init_from")):
        if place := kept.get(block, {}).get(key):
            kept[block][key] = place.rstrip("/").rpartition("/")[2]
    for block, key, without in (("data", "dir", None), ("track", "mlflow", False)):
        if isinstance(kept.get(block, {}).get(key), str):
            kept[block][key] = without
    return kept


@dataclass(frozen=True, eq=False)
class Trial:
    """What an exported file has to stand: test images, what its answers must be, and what else is measured of it.

    `judge` returns the figures, or raises Refused; `further` more metadata, of the file that was judged.
    """

    dataset: str
    test: Batches
    judge: Callable[[Answers], dict[str, Any]]
    further: Callable[[Path], dict[str, Any]] = lambda path: {}


def versions(request: Request) -> dict[str, str]:
    """Return the versions of what writes the file."""
    found = {"pictorch": pictorch.__version__, "torch": torch.__version__}
    return found | ({name: version(name) for name in drafts.PACKAGES} if request.format == "onnx" else {})


def code_licence(model: str) -> str:
    """Return whose code the network is, and under which licence."""
    return f"pictorch: MIT; {model}: its authors'" if is_foreign(model) else "MIT"


def export(
    source: Source, test: Batches | None, calibration: Batches | None = None, *, dataset: str = ""
) -> list[Written]:
    """Write the files of a source, and return them, the one in float32 first.

    `dataset` is the name of what the test images are of.
    `test` are all test images (or those that it is to be checked on), None where nothing is to be checked;
    `calibration` images of training, for int8. Raises Refused for a file that does not answer as it must, of which
    nothing is left; UserError for a network that cannot be written in this format.
    """
    request, metadata = source.request, source.metadata
    draft = make_draft(source)
    if request.half:
        metadata = metadata | {"half": {"weights": "float16 where they have two dimensions or more"}}
    if test is None:
        return [publish(draft, metadata, source.files[0], None)]
    expected = parity.reference(as_trained(source.predictor), test)

    def judge(found: Answers) -> dict[str, Any]:
        if request.half:
            return parity.check_loss(expected, found, request.max_loss)
        return parity.check_same(expected, found, metadata["classes"])

    written = [publish(draft, metadata, source.files[0], Trial(dataset, test, judge))]
    if request.int8:
        assert isinstance(draft, OnnxDraft)
        assert calibration is not None
        written.append(publish_int8(source, draft, written[0], expected, Trial(dataset, test, judge), calibration))
    return written


def make_draft(source: Source) -> Draft:
    """Return the run's network in the format that is asked for."""
    request, inside = source.request, source.request.preprocessing == "inside"
    # Loaded anew, so that nothing that happens to it here is also in what it is held against.
    model, metadata = weights.load(source.run.weights)
    if request.format == "safetensors":
        return WeightsDraft(model, half=request.half)
    mean, std = normalisation(metadata) if inside else (None, None)
    graph = Graph(model, mean, std, source.predictor.views)
    shape = (metadata["in_channels"], metadata["image_size"], metadata["image_size"])
    program = drafts.trace(graph, shape, torch.uint8 if inside else torch.float32, metadata["model"])
    return drafts.to_onnx(program, metadata["model"]) if request.format == "onnx" else ProgramDraft(program)


def as_trained(predictor: Predictor) -> parity.Answer:
    """Return what the run's own network answers in float32, layer by layer as it was trained, not folded."""

    def answer(pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = predictor.normalised(pixels).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            logits = of_images.answer(predictor.model, images, predictor.views)
        return logits.softmax(dim=1), logits

    return answer


def publish(draft: Draft, metadata: dict[str, Any], out: Path, trial: Trial | None) -> Written:
    """Write a draft, judge what the file answers, and put it at its place with the figures in its metadata.

    Raises Refused.
    """
    with runs.explained(out), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / out.name
        draft.write(path, metadata)
        if trial:
            file = exported.open(path)
            try:
                figures = trial.judge(parity.answers(file, trial.test))
            except Refused as error:
                raise Refused(f"{out}: not written: {error}") from None
            against = f"the run's network, float32, torch {torch.__version__}"
            metadata = metadata | {"check": figures | {"dataset": trial.dataset, "against": against}}
            metadata |= trial.further(path)
            draft.write(path, metadata)
            confirm(file, exported.open(path), trial.test)
        out.parent.mkdir(parents=True, exist_ok=True)
        runs.write(out, path.read_bytes())
    return Written(out, metadata)


def confirm(judged: Exported, final: Exported, test: Batches) -> None:
    """Assert that the file with the figures among its metadata is the one that was judged, by its answers' bits."""
    images, _ = next(iter(test))
    assert all(torch.equal(one, other) for one, other in zip(judged(images), final(images), strict=True))


def publish_int8(
    source: Source, draft: OnnxDraft, plain: Written, expected: Answers, trial: Trial, calibration: Batches
) -> Written:
    """Write the draft in 8 bits beside its file in float32. Raises Refused for more than the allowed loss."""
    file = exported.open(plain.path)
    images = [file.prepared(some) for pixels, _ in calibration for some in torch.split(pixels, int8.AT_ONCE)]
    with runs.explained(source.files[1]):
        made = int8.quantise(draft, images)

    def measured(path: Path) -> dict[str, Any]:
        sizes = [plain.size_bytes, path.stat().st_size]
        return {
            "int8": {
                "weights": "int8, a scale for each output channel",
                "activations": "uint8, a scale for each tensor, minimum to maximum",
                "calibration_images": sum(map(len, images)),
                "calibration_part": "training",
                "bytes": sizes[1],
                "float32_bytes": sizes[0],
                "latency": int8.latencies([plain.path, path], images[0]),
            }
        }

    def judge(found: Answers) -> dict[str, Any]:
        return parity.check_loss(expected, found, source.request.max_loss)

    return publish(made, source.metadata, source.files[1], replace(trial, judge=judge, further=measured))
