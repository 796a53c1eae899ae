"""Heat-maps of every family, against maps computed by hand and tasks whose evidence lies in a known place."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from deploy.predictors import predictor_of, with_network
from models.test_models import CASES
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import pictorch
from pictorch import api
from pictorch.config import UserError
from pictorch.deploy import explain as deploy
from pictorch.deploy.explain import explain, heatmap, of_patches, overlay, rollout
from pictorch.deploy.predict import Predictor
from pictorch.models import create


def noise(channels: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (channels, size, size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_family_has_a_map(case: tuple[str, dict[str, Any]]) -> None:
    torch.manual_seed(0)
    name, options = case
    predictor = predictor_of(name, **options)
    found = explain(predictor, noise(), 1, checked=False)
    assert found.method == ("rollout" if name == "vit" else "gradcam")
    assert found.values.ndim == 2
    assert found.values.shape[0] == found.values.shape[1] >= 2
    assert (found.heat.shape, found.heat.dtype) == ((32, 32), torch.float32)
    assert found.heat.min() >= 0
    assert float(found.heat.max()) in (0, 1)
    assert torch.equal(found.heat, heatmap(predictor, noise(), 1))
    logits = predictor.model(predictor.normalised(noise())[None]).detach()[0]
    assert found.probability == pytest.approx(float(logits.softmax(0)[1]), abs=1e-6)
    assert found.predicted == int(logits.argmax())
    assert all(parameter.grad is None for parameter in predictor.model.parameters())


class Tiny(nn.Module):
    """Two channels of ReLU(w x + b), their means, a linear layer: Grad-CAM of it is arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 1)
        self.classifier = nn.Linear(2, 2, bias=False)
        self.unused = nn.Conv2d(1, 2, 1)
        for parameter, values in (
            (self.convolution.weight, [1.0, -1.0]),
            (self.convolution.bias, [0.0, 0.5]),
            (self.classifier.weight, [3.0, -2.0, -1.0, 4.0]),
        ):
            assert parameter is not None
            parameter.data = torch.tensor(values).view_as(parameter)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.convolution(images), inplace=True)
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


@pytest.fixture
def tiny() -> Predictor:
    return with_network(predictor_of("resnet", depth=8, in_channels=1, num_classes=2, image_size=4), Tiny())


@pytest.mark.parametrize("target", [0, 1])
def test_grad_cam_is_the_one_computed_by_hand(tiny: Predictor, target: int) -> None:
    pixels = noise(1, 4)
    x = (pixels[0].double() / 255 - 0.5) / 0.25
    maps = [x.clamp_min(0), (0.5 - x).clamp_min(0)]
    # The derivative of a mean over 16 places is 1 / 16 of the weight behind it, at each of them.
    factors = ([3.0, -2.0], [-1.0, 4.0])[target]
    expected = sum(factor / 16 * each for factor, each in zip(factors, maps, strict=True)).clamp_min(0)
    found = explain(tiny, pixels, target, checked=False)
    assert found.layer == "relu after convolution, 4 x 4"
    torch.testing.assert_close(found.values.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.heat.double(), expected / expected.max(), rtol=1e-5, atol=1e-6)
    # Before the ReLU, which works in place, the channels are others, and so are their mean gradients.
    before = [x, 0.5 - x]
    weights = [factor * float((each > 0).double().mean()) / 16 for factor, each in zip(factors, before, strict=True)]
    linear = sum(weight * each for weight, each in zip(weights, before, strict=True)).clamp_min(0)
    named = explain(tiny, pixels, target, layer="convolution", checked=False)
    torch.testing.assert_close(named.values.double(), linear, rtol=1e-5, atol=1e-6)


def test_a_class_that_nothing_speaks_for_has_an_empty_map(tiny: Predictor) -> None:
    dark = torch.full((1, 4, 4), 255, dtype=torch.uint8)
    found = explain(tiny, dark, 1)
    assert found.heat.eq(0).all()
    assert found.check is not None
    assert not found.check.holds["insertion"]
    assert np.asarray(overlay(dark, found.heat)).min() == 255


def slow_rollout(attentions: list[np.ndarray]) -> np.ndarray:
    """Return, entry by entry, how much of token j is in token i after all layers, of one image."""
    tokens = len(attentions[0])
    total = [[float(i == j) for j in range(tokens)] for i in range(tokens)]
    for weights in attentions:
        mixed = [[(weights[i][j] + (i == j)) / 2 for j in range(tokens)] for i in range(tokens)]
        mixed = [[value / sum(row) for value in row] for row in mixed]
        total = [[sum(mixed[i][k] * total[k][j] for k in range(tokens)) for j in range(tokens)] for i in range(tokens)]
    return np.array(total)


def test_rollout_is_the_slow_one_and_its_rows_sum_to_one() -> None:
    torch.manual_seed(0)
    attentions = [(3 * torch.randn(2, 10, 10)).softmax(2) for _ in range(3)]
    total = rollout(attentions)
    torch.testing.assert_close(total.sum(2), torch.ones(2, 10))
    for n in range(2):
        expected = slow_rollout([each[n].numpy() for each in attentions])
        np.testing.assert_allclose(total[n].numpy(), expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(of_patches(total), total[:, 0, 1:].reshape(2, 3, 3))
    mean = of_patches(total[:, :9, :9])
    torch.testing.assert_close(mean[1, 2, 0], total[1, :9, 6].mean())


def test_rollout_of_a_network_is_that_of_its_attention() -> None:
    torch.manual_seed(0)
    predictor = predictor_of("vit", depth=3, dim=24, heads=3)
    for block in predictor.model.blocks:
        block.attention.qkv.weight.data.mul_(5)
    kept = []
    for block in predictor.model.blocks:
        block.attention.register_forward_pre_hook(lambda module, given: kept.append((module, given[0])))
    predictor.model(predictor.normalised(noise())[None])
    attentions = []
    for module, x in kept:
        query, key, _ = module.qkv(x).detach()[0].unflatten(1, (3, 3, 8)).permute(1, 2, 0, 3)
        attentions.append((query @ key.transpose(1, 2) / 8**0.5).softmax(2).mean(0).double().numpy())
    found = explain(predictor, noise(), checked=False)
    expected = slow_rollout(attentions)[0, 1:].reshape(8, 8)
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-4)
    assert found.heat.min() == 0
    assert found.layer == "3 layers of attention, 8 x 8"


def patterns(count: int, draws: torch.Generator, *, elsewhere: bool) -> tuple[Tensor, Tensor]:
    """Return images uint8 [N,1,32,32] and labels: which of four stripes is in the top right quarter.

    In the other quarters are other stripes, where `elsewhere` says so, or noise.
    """
    i, j = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    stripes = torch.stack([(k // 2 % 2 * 255).to(torch.uint8) for k in (i, j, i + j, i - j + 16)])
    which = torch.randint(0, 4, (count, 4), generator=draws)
    parts = stripes[which]
    images = torch.cat([torch.cat([parts[:, 0], parts[:, 1]], 2), torch.cat([parts[:, 2], parts[:, 3]], 2)], 1)
    if not elsewhere:
        other = torch.randint(0, 256, images.shape, generator=draws).to(torch.uint8)
        other[:, :16, 16:] = images[:, :16, 16:]
        images = other
    return images[:, None].contiguous(), which[:, 1]


@pytest.mark.parametrize(
    ("name", "options", "steps", "elsewhere", "method"),
    [
        ("resnet_preact", {"depth": 8, "base_channels": 8}, 60, False, "gradcam"),
        ("vit", {"depth": 1, "dim": 32, "heads": 2}, 150, True, "rollout"),
        ("vit", {"depth": 2, "dim": 32, "heads": 2, "pool": "mean"}, 200, True, "rollout"),
    ],
    ids=["resnet", "vit", "vit mean"],
)
def test_the_evidence_is_found_where_it_lies(
    name: str, options: dict[str, Any], steps: int, elsewhere: bool, method: str
) -> None:
    """The quarter that alone decides has most of the heat, of each method; by chance it would have a quarter of it."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(1)
    network = create(name, num_classes=4, in_channels=1, image_size=32, **options)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3 if name != "vit" else 2e-3)
    for _ in range(steps):
        images, labels = patterns(32, draws, elsewhere=elsewhere)
        loss = F.cross_entropy(network((images / 255 - 0.5) / 0.25), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predictor = predictor_of(name, network=network, num_classes=4, in_channels=1, image_size=32, **options)
    images, labels = patterns(12, torch.Generator().manual_seed(2), elsewhere=elsewhere)
    found = [explain(predictor, pixels) for pixels in images]
    assert [each.predicted for each in found] == labels.tolist()
    assert {each.method for each in found} == {method}
    masses = torch.stack([share_of_quarter(each.heat) for each in found])
    assert masses.mean() > 0.5
    drops = torch.stack([share_of_quarter(each.drops.relu()) for each in found if each.drops is not None])
    assert drops.mean() > 0.6
    torch.testing.assert_close(drops[0], share_of_quarter(heatmap(predictor, images[0], method="occlusion")))
    agreements = [each.check.agreement for each in found if each.check is not None]
    assert np.mean(agreements) > 0.3
    assert sum(each.check is not None and each.check.holds["insertion"] for each in found) >= 8


def share_of_quarter(heat: Tensor) -> Tensor:
    return heat[:16, 16:].sum() / heat.sum()


def test_without_a_map_or_attention_there_is_occlusion() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    predictor = with_network(predictor_of("resnet", depth=8), network)
    found = explain(predictor, noise())
    assert (found.method, found.layer) == ("occlusion", "squares of 8 pixels, 7 x 7")
    assert found.check is not None
    assert found.check.agreement is None
    for method, why in {
        "gradcam": "this network has none",
        "rollout": "needs attention, and this network has none",
    }.items():
        with pytest.raises(UserError, match=f"^method: {method}.* {why}"):
            heatmap(predictor, noise(), method=method)  # type: ignore[arg-type]


def test_a_layer_of_ones_own_choice() -> None:
    torch.manual_seed(0)
    predictor = predictor_of("resnet", depth=14)
    automatic = explain(predictor, noise(), checked=False)
    named = explain(predictor, noise(), layer="stages.2.1", checked=False)
    assert torch.equal(named.values, automatic.values)
    assert named.layer == automatic.layer == "stages.2.1, 8 x 8"
    finer = explain(predictor, noise(), side=16, checked=False)
    assert finer.layer == "stages.1.1, 16 x 16"
    assert explain(predictor, noise(), layer="stages.1", checked=False).values.equal(finer.values)


def test_tokens_of_a_transformer_can_be_a_layer() -> None:
    torch.manual_seed(0)
    predictor = predictor_of("vit", depth=2, dim=24, heads=2)
    maps = [heatmap(predictor, noise(), target, layer="blocks.1.norm1") for target in (0, 1)]
    assert not torch.equal(*maps)
    assert torch.equal(*(heatmap(predictor, noise(), target) for target in (0, 1)))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"class_index": 3}, "class: expected 0 to 2, got 3"),
        ({"class_index": -1}, "class: expected 0 to 2, got -1"),
        ({"method": "lime"}, "method: expected one of auto, gradcam, rollout, occlusion, got 'lime'"),
        ({"method": "rollout"}, "method: rollout needs attention, and this network has none; use gradcam or occlusion"),
        ({"method": "rollout", "layer": "bn"}, "layer: rollout has none; this is for method gradcam"),
        ({"method": "occlusion", "side": 8}, "side: occlusion has none; this is for method gradcam"),
        ({"layer": "stages.2.3"}, "layer: the network has no module 'stages.2.3'; did you mean 'stages.2"),
        ({"layer": "stages.2", "side": 8}, "side: the layer is given, and with it the size of its map"),
        ({"layer": "classifier"}, r"layer: classifier returns \[3\]; expected a square map of 2x2 pixels or more"),
        ({"side": 1}, "side: expected 2 to 32 pixels, got 1"),
        ({"side": 33}, "side: expected 2 to 32 pixels, got 33"),
        ({"patch": 0}, "patch: expected 1 to 31 pixels, got 0"),
        ({"patch": 32}, "patch: expected 1 to 31 pixels, got 32"),
    ],
)
def test_mistakes(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=f"^{why}"):
        explain(predictor_of("resnet_preact", depth=8), noise(), **options)


@pytest.mark.parametrize("pixels", [torch.zeros(3, 32, 32), noise(1), noise(3, 28), noise()[None]])
def test_pixels_are_those_of_the_predictor(pixels: Tensor) -> None:
    with pytest.raises(UserError, match=r"^pixels: expected uint8 \[3, 32, 32\], as Predictor.pixels makes, got "):
        heatmap(predictor_of("resnet", depth=8), pixels)


def test_a_layer_that_does_not_count_and_a_side_that_is_too_large(tiny: Predictor) -> None:
    with pytest.raises(UserError, match=r"^layer: unused returns no map when the network answers: it is not run"):
        heatmap(tiny, noise(1, 4), layer="unused")
    small = predictor_of("resnet", layout="imagenet", depth=18, base_channels=4, stem="imagenet")
    with pytest.raises(UserError, match=r"^side: the largest map that all .* has 16 pixels a side, got 17"):
        heatmap(small, noise(), side=17)

    class Beside(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            self.unused(images)
            return super().forward(images)

    with pytest.raises(UserError, match=r"^layer: the answer does not depend on what unused returns"):
        heatmap(with_network(tiny, Beside()), noise(1, 4), layer="unused")


def test_an_answer_that_is_not_finite_is_told(tiny: Predictor) -> None:
    tiny.model.classifier.weight.data[0, 0] = float("nan")  # type: ignore[union-attr, index]
    with pytest.raises(UserError, match="the network's answer to this image is not finite"):
        heatmap(tiny, noise(1, 4))


def test_a_class_by_name_or_number() -> None:
    classes = ("cat", "dog", "7")
    assert [deploy.class_number(classes, name) for name in ("dog", "0", 2, "7")] == [1, 0, 2, 2]
    with pytest.raises(UserError, match="class: the run has no class 'cta'; did you mean 'cat'"):
        deploy.class_number(classes, "cta")
    with pytest.raises(UserError, match="class: expected a name, or a number from 0 to 2, got 3"):
        deploy.class_number(classes, "3")


def test_threads_do_not_hear_each_other_and_leave_nothing_behind() -> None:
    torch.manual_seed(0)
    predictor = predictor_of("resnet_preact", depth=8, base_channels=8)
    images = [noise(seed=seed) for seed in range(24)]
    alone = [heatmap(predictor, pixels) for pixels in images]
    named = [heatmap(predictor, pixels, layer="stages.1") for pixels in images]
    expected = predictor.logits(torch.stack(images))

    def work(number: int) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode():
            both = heatmap(predictor, images[number]), heatmap(predictor, images[number], layer="stages.1")
            assert torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
        return *both, predictor.logits(images[number][None])[0]

    with ThreadPoolExecutor(6) as pool:
        for i, (heat, of_layer, logits) in enumerate(pool.map(work, range(24))):
            torch.testing.assert_close(heat, alone[i])
            torch.testing.assert_close(of_layer, named[i])
            torch.testing.assert_close(logits, expected[i], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in predictor.model.modules())


def test_gradients_that_the_caller_switched_off_stay_off() -> None:
    predictor = predictor_of("resnet", depth=8)
    expected = heatmap(predictor, noise())
    with torch.no_grad():
        assert torch.equal(heatmap(predictor, noise()), expected)
        assert not torch.is_grad_enabled()


def test_the_packages_function(small_run: api.Result) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save("a.png")
    [found] = pictorch.explain(small_run.run_dir, "a.png")
    [prediction] = pictorch.predict(small_run.run_dir, "a.png")
    assert str(found.predicted) == prediction.classes[0]
    assert found.probability == pytest.approx(prediction.probabilities[0], abs=1e-5)
    assert found.check is not None
    several = pictorch.explain(small_run.run_dir, ["a.png", Image.open("a.png")], "3", checked=False)
    assert [each.target for each in several] == [3, 3]
    assert torch.equal(several[0].heat, several[1].heat)
    with pytest.raises(UserError, match=r"none\.png: there is no such file"):
        pictorch.explain(small_run.run_dir, "none.png")
