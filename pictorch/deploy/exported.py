"""An exported file, read back from disk: its metadata, and its answers to images."""

import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pictorch.config import UserError
from pictorch.deploy.drafts import KEY, Graph, first_line, packages, quiet
from pictorch.deploy.predict import Predictor, normalisation
from pictorch.models import weights

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}


class Exported(ABC):
    """Abstract: images uint8 [N,C,S,S] -> probabilities and logits, float32 [N,K], by a file alone."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.metadata = metadata
        self.beside = metadata["export"]["preprocessing"] == "beside"
        self.mean, self.std = normalisation(metadata)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.answer(self.prepared(pixels))

    def prepared(self, pixels: Tensor) -> Tensor:
        """Return what the file takes for images uint8: these, or where the normalising is beside it, float32."""
        return (pixels.to(torch.float32) / 255 - self.mean) / self.std if self.beside else pixels

    @abstractmethod
    def answer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the file's probabilities and logits for images as it takes them."""


@final
class OnnxFile(Exported):
    """By onnxruntime on the CPU, with `threads`, by default as many as torch has."""

    def __init__(self, path: Path, metadata: dict[str, Any], threads: int | None = None) -> None:
        super().__init__(metadata)
        self.session = session(path, threads or torch.get_num_threads())

    def answer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        values = self.session.run(["probabilities", "logits"], {"images": images.contiguous().numpy()})
        return torch.from_numpy(values[0]), torch.from_numpy(values[1])


@final
class Program(Exported):
    """By torch."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        super().__init__(metadata)
        with quiet():
            self.module = torch.export.load(path).module()

    def answer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            probabilities, logits = self.module(images)
        return probabilities, logits


@final
class Network(Exported):
    """By the network that the file's name and options say, with the file's weights in float32."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        super().__init__(metadata)
        model, _ = weights.load(path)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.graph = Graph(model, self.mean, self.std, metadata["export"]["views"]).eval()

    def answer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            probabilities, logits = self.graph(images)
        return probabilities, logits


KINDS: dict[str, Callable[[Path, dict[str, Any]], Exported]] = {
    ".onnx": OnnxFile,
    ".pt2": Program,
    ".safetensors": Network,
}


def open(path: Path) -> Exported:
    """Return what an exported file answers. Raises UserError naming a file that `pictorch export` did not write."""
    metadata = read_metadata(path)
    if metadata is None:
        raise UserError(f"{path}: this is not a file that `pictorch export` wrote, or it is damaged")
    try:
        return KINDS[path.suffix](path, metadata)
    except UserError:
        raise
    # Damaged bytes end in almost any exception of the three readers.
    except Exception as error:
        raise UserError(f"{path}: this exported file cannot be loaded: {first_line(error)}") from None


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Return the metadata of an exported file; None for every other file. Raises UserError without onnxruntime."""
    readers = {".onnx": onnx_text, ".pt2": program_text, ".safetensors": weights_text}
    if path.suffix not in readers or not path.is_file():
        return None
    try:
        metadata = json.loads(readers[path.suffix](path) or "null")
    except UserError:
        raise
    except Exception:
        return None
    known = isinstance(metadata, dict) and isinstance(metadata.get("export"), dict)
    return metadata if known and metadata["export"].get("suffix") == path.suffix else None


def onnx_text(path: Path) -> str | None:
    metadata: dict[str, str] = session(path, 1).get_modelmeta().custom_metadata_map
    return metadata.get(KEY)


def program_text(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/extra/{KEY}")]
        return archive.read(names[0]).decode() if names else None


def weights_text(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(KEY)
    except SafetensorError:
        return None


def session(path: Path, threads: int) -> Any:
    """Return onnxruntime's session of a file, on the CPU."""
    runtime = packages()["onnxruntime"]
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@final
class FilePredictor(Predictor):
    """A Predictor by an exported file of ONNX or torch.export, without the run that it came from."""

    def __init__(self, path: Path) -> None:
        self.file = open(path)
        self.metadata = self.file.metadata
        self.classes = tuple(self.metadata["classes"])
        self.views = self.metadata["export"]["views"]

    def logits(self, pixels: Tensor) -> Tensor:
        return self.file(pixels)[1]


def predictor(place: Path) -> Predictor:
    """Return the Predictor of a run directory or of an exported file. Raises UserError for what is neither."""
    return FilePredictor(place) if place.suffix in (".onnx", ".pt2") and place.is_file() else Predictor(place)
