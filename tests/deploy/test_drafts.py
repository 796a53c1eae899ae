"""Every family as ONNX and as torch.export's program, read back from disk, for any number of images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models.test_fold import NETWORKS, images_of, network, settled
from torch import Tensor

from pictorch.deploy import drafts, exported
from pictorch.deploy.drafts import Draft, Graph, ProgramDraft, WeightsDraft, to_onnx, trace
from pictorch.deploy.parity import TOLERANCE
from pictorch.models import create, families

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def metadata_of(suffix: str) -> dict[str, Any]:
    """Return the part of the metadata that reading a file back needs."""
    return {
        "export": {"suffix": suffix, "preprocessing": "inside", "views": "one"},
        "licence": {"weights": "MIT"},
        "mean": MEAN,
        "std": STD,
    }


def graph_of(model: torch.nn.Module, views: Any = "one", channels: int = 3) -> Graph:
    mean, std = (torch.tensor(values[:channels])[:, None, None] for values in (MEAN, STD))
    return Graph(model.to(memory_format=torch.contiguous_format), mean, std, views).eval()  # type: ignore[call-overload]


def pixels_of(n: int, channels: int = 3, size: int = 32) -> Tensor:
    draws = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=draws)


def check_files(
    graph: Graph, made: dict[str, Draft], numbers: tuple[int, ...], size: int, folder: Path, channels: int = 3
) -> None:
    """Hold each file, read back, against the graph."""
    for suffix, draft in made.items():
        path = folder / f"model{suffix}"
        draft.write(path, metadata_of(suffix))
        file = exported.open(path)
        for n in numbers:
            with torch.inference_mode():
                probabilities, logits = graph(pixels_of(n, channels, size))
            found = file(pixels_of(n, channels, size))
            assert found[1].shape == logits.shape == (n, 10)
            apart = float((found[1] - logits).abs().max() / logits.square().mean().sqrt())
            print(f"{suffix}, {n} images: {apart:.1e}")  # for docs/export.md
            assert apart <= TOLERANCE
            assert torch.allclose(found[0], probabilities, atol=1e-4)
            assert float((found[0].sum(1) - 1).abs().max()) < 1e-5


def test_every_family_is_tried() -> None:
    assert {family for family, _ in NETWORKS.values()} == families().keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_exports(name: str, tmp_path: Path) -> None:
    model, images = network(name)
    size = images.shape[-1]
    graph = graph_of(model)
    program = trace(graph, (3, size, size), torch.uint8, name)
    check_files(graph, {".onnx": to_onnx(program, name), ".pt2": ProgramDraft(program)}, (1, 7), size, tmp_path)


# What else differs in kind: layouts, stems, the documents' programs, grey images of 28 pixels.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet of MNIST": ("resnet", {"depth": 8, "base_channels": 8, "in_channels": 1, "image_size": 28}),
    "resnet bottleneck seed1": (
        "resnet",
        {"depth": 11, "block_type": "bottleneck", "base_channels": 8, "as_published": "seed1"},
    ),
    "preact imagenet seed2": (
        "resnet_preact",
        {"layout": "imagenet", "depth": 18, "base_channels": 8, "stem": "imagenet", "as_published": "seed2"},
    ),
    "densenet imagenet": ("densenet", {"layout": "imagenet", "blocks": [1, 1, 1, 1], "growth_rate": 8}),
    "pyramidnet imagenet": ("pyramidnet", {"layout": "imagenet", "depth": 18, "alpha": 12}),
    "resnext imagenet": ("resnext", {"layout": "imagenet", "depth": 50, "cardinality": 2, "base_channels": 2}),
    "shufflenet_v2 halved": ("shufflenet_v2", {"width": 0.5, "stride2_unit": "halved"}),
    "vit mean": ("vit", {"depth": 1, "dim": 16, "heads": 2, "pool": "mean"}),
    "vit of MNIST seed3": (
        "vit",
        {"depth": 1, "dim": 16, "heads": 2, "in_channels": 1, "image_size": 28, "as_published": "seed3"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_what_differs_within_families_exports(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    family, options = MORE[name]
    channels, size = options.get("in_channels", 3), options.get("image_size", 32)
    model = settled(create(family, **options), images_of(size)[:, :channels])
    graph = graph_of(model, channels=channels)
    program = trace(graph, (channels, size, size), torch.uint8, name)
    check_files(graph, {".onnx": to_onnx(program, name)}, (1, 7), size, tmp_path, channels)


@pytest.mark.parametrize("views", ["mirror", pytest.param("mirror_shift", marks=pytest.mark.slow)])
def test_views_are_in_the_graph_and_the_batch_is_free(views: str, tmp_path: Path) -> None:
    model, _ = network("resnet")
    graph = graph_of(model, views)
    program = trace(graph, (3, 32, 32), torch.uint8, "resnet")
    check_files(
        graph, {".onnx": to_onnx(program, "resnet"), ".pt2": ProgramDraft(program)}, (1, 2, 7, 64), 32, tmp_path
    )
    with torch.inference_mode():
        one, mirrored = (graph(pixels)[1] for pixels in (pixels_of(2), pixels_of(2).flip(3)))
    assert torch.allclose(one, mirrored, atol=1e-5) == (views == "mirror")


def test_onnx_is_of_its_opset_in_one_file_and_keeps_no_path_of_this_machine(tmp_path: Path) -> None:
    import onnx

    model, _ = network("vit")
    program = trace(graph_of(model), (3, 32, 32), torch.uint8, "vit")
    folder = tmp_path / "made"
    folder.mkdir()
    onnx_draft, program_draft = to_onnx(program, "vit"), ProgramDraft(program)
    onnx_draft.write(folder / "model.onnx", metadata_of(".onnx"))
    program_draft.write(folder / "model.pt2", metadata_of(".pt2"))
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.pt2"]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert str(Path(drafts.__file__).parent.parent).encode() not in content
        assert b"site-packages" not in content
    read = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(read, full_check=True)
    assert [(each.domain, each.version) for each in read.opset_import] == [("", drafts.OPSET)]
    for tensor, kind, shape in (
        (read.graph.input[0], onnx.TensorProto.UINT8, ["N", 3, 32, 32]),
        (read.graph.output[0], onnx.TensorProto.FLOAT, ["N", 10]),
        (read.graph.output[1], onnx.TensorProto.FLOAT, ["N", 10]),
    ):
        of = tensor.type.tensor_type
        assert (of.elem_type, [side.dim_param or side.dim_value for side in of.shape.dim]) == (kind, shape)


def test_halves_are_what_has_two_dimensions_and_the_model_stays(tmp_path: Path) -> None:
    model, _ = network("resnet")
    draft = WeightsDraft(model, half=True)
    for name, parameter in draft.model.named_parameters():
        assert parameter.dtype == (torch.float16 if parameter.ndim > 1 else torch.float32), name
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    with torch.no_grad():
        model.stem.conv.weight[0, 0, 0, 0] = 1e5  # type: ignore[union-attr, operator, index]
    with pytest.raises(drafts.UserError, match=r"--half: stem\.conv\.weight has values beyond 65504"):
        WeightsDraft(model, half=True)


def test_a_network_beyond_onnx_is_told_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create("resnet", depth=8).eval()
    program = trace(graph_of(model), (3, 32, 32), torch.uint8, "resnet_8")
    monkeypatch.setattr(drafts, "LARGEST_ONNX", 1000)
    with pytest.raises(drafts.UserError, match=r"model\.name=resnet_8: its weights take 0\.0 GiB, and a file of ONNX"):
        to_onnx(program, "resnet_8")
