"""A network as a file in the making: an ONNX graph, torch.export's program, or safetensors.

The graph is what is deployed, not the network alone: it takes uint8 pixels where the normalising is inside, answers the
run's views of each image, and gives probabilities and logits for any number of images.
"""

import contextlib
import copy
import importlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from pictorch.config import UserError
from pictorch.config.schema import Views
from pictorch.models import views as of_images
from pictorch.models import weights

Preprocessing = Literal["inside", "beside"]

KEY = "pictorch"  # under which each of the formats holds the metadata, one JSON object
OPSET = 20  # of ONNX; onnxruntime 1.17 is the first that runs it
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST_ONNX = 2**31 - 2**24  # bytes of weights: protobuf ends at 2 GiB, and the graph needs some
LARGEST_HALF = torch.finfo(torch.float16).max


class Draft(Protocol):
    """What is to become an exported file."""

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write it with this metadata."""


class Graph(nn.Module):
    """Images [N,C,S,S] -> probabilities and logits, float32 [N,K], of the given views.

    With `mean` and `std` the images are uint8 and normalised first, as `Predictor.normalised` does; with None they are
    float32 and normalised already.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, network: nn.Module, mean: Tensor | None, std: Tensor | None, views: Views) -> None:
        super().__init__()
        self.network, self.views = network, views
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.mean is not None and self.std is not None:
            images = (images.to(torch.float32) / 255 - self.mean) / self.std
        logits = of_images.answer(self.network, images, self.views)
        return logits.softmax(dim=1), logits


class WeightsDraft:
    """The network's state as safetensors, in the form of the run's own; with `half` all but vectors as float16.

    Raises UserError for a weight that float16 cannot hold.
    """

    def __init__(self, model: nn.Module, *, half: bool) -> None:
        self.model = halved(model) if half else model

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        path.write_bytes(weights.to_bytes(self.model, metadata))


class ProgramDraft:
    """A graph as torch.export's program."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.program = program

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        content = io.BytesIO()
        with quiet():
            torch.export.save(self.program, content, extra_files={KEY: json.dumps(metadata)})
        path.write_bytes(content.getvalue())


class OnnxDraft:
    """A graph in ONNX's form, checked by its checker."""

    def __init__(self, model: Any) -> None:
        self.model = model
        packages()["onnx"].checker.check_model(model, full_check=True)

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        model = type(self.model)()
        model.CopyFrom(self.model)
        # `model_license` is the name that ONNX's own specification has for it.
        for key, value in ((KEY, json.dumps(metadata)), ("model_license", metadata["licence"]["weights"])):
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        path.write_bytes(model.SerializeToString())


def halved(model: nn.Module) -> nn.Module:
    """Return a copy with what has two dimensions or more in float16; biases and norms stay. Raises UserError."""
    model = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            if float(parameter.detach().abs().max()) > LARGEST_HALF:
                raise UserError(f"--half: {name} has values beyond {LARGEST_HALF:g}, the largest of float16")
            parameter.data = parameter.data.to(torch.float16)
    return model


def trace(graph: Graph, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> torch.export.ExportedProgram:
    """Return the graph as torch.export follows it for images [N,*shape] of any number N.

    Raises UserError where it cannot, which for a network of the user's own is theirs to mend.
    """
    example = torch.zeros(2, *shape, dtype=dtype)
    any_number = {"images": {0: torch.export.Dim("N", min=1)}}
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(graph.eval(), (example,), dynamic_shapes=any_number)
    # What a network's code does under the tracer is its own, and so is what it raises.
    except Exception as error:
        raise UserError(
            f"model.name={name}: torch.export cannot follow this network for batches of any size: {first_line(error)}; "
            "--format safetensors keeps its weights"
        ) from error
    # They hold lines of the source and the paths of this machine.
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def to_onnx(program: torch.export.ExportedProgram, name: str) -> OnnxDraft:
    """Return the program in ONNX's form, of OPSET, with the batch as the free dimension N.

    Raises UserError without the packages, for a network that is too large for one file, and for an operation that
    ONNX has not.
    """
    packages()
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > LARGEST_ONNX:
        raise UserError(
            f"model.name={name}: its weights take {size / 2**30:.1f} GiB, and a file of ONNX holds at most 2; "
            "--format torch-export and --format safetensors have no such limit"
        )
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                (),
                input_names=["images"],
                output_names=["probabilities", "logits"],
                dynamic_shapes={"images": {0: "N"}},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise UserError(
            f"model.name={name}: this network cannot be written as ONNX: {first_line(error)}; "
            "--format torch-export may keep it"
        ) from error
    assert made is not None
    return OnnxDraft(without_traces(made.model_proto))


def without_traces(model: Any) -> Any:
    """Return the model without what the exporter notes of each node: where in which source file it came from."""
    for part in (model.graph, *model.functions):
        for each in (*part.node, *part.value_info, *getattr(part, "input", ()), *getattr(part, "output", ())):
            if hasattr(each, "metadata_props"):
                del each.metadata_props[:]
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    return model


def packages() -> dict[str, Any]:
    """Return the packages of the extra `export` by name. Raises UserError where one is missing."""
    try:
        return {name: importlib.import_module(name) for name in PACKAGES}
    except ImportError as error:
        raise UserError(
            f"ONNX needs {', '.join(PACKAGES)}, and {error.name or error} is missing: "
            "`python -m pip install 'pictorch[export]'`; --format torch-export and safetensors need nothing more"
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line with words in an exception's message, or its kind."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters and quantisers say of their own affairs off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
