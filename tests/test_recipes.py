"""What recipes mean, beyond what loading them checks: the networks of published rows, the rates of speed records."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import pictorch
from pictorch import data, optim
from pictorch.api import load_config
from pictorch.engine import build
from pictorch.experiments import published
from pictorch.optim.muon import orthogonalise

TABLES = json.loads((Path(pictorch.__file__).parent / "models" / "seed_tables.json").read_text())


def counted(number: published.Published) -> set[int]:
    """Return the parameters that the network of a published number is known to have."""
    classes, pixels = 100 if number.dataset == "cifar100" else 10, 28 if "mnist" in number.dataset else 32
    options = [word.removeprefix("model.").split("=") for word in number.overrides if word.startswith("model.")]
    given = {key: value == "true" for key, value in options if key in ("add_last_bn", "remove_first_relu")}
    return {
        row["params" if number.source == "document" else "paper_params"]
        for row in TABLES
        if (row["document"], row["network"]) == (number.document, number.model)
        and (row["num_classes"], row["image_size"]) == (classes, pixels)
        and given.items() <= row["options"].items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("document", ["seed1", "seed2", "seed3"])
def test_published_numbers_are_of_networks_of_the_right_size(document: str) -> None:
    """The seed documents' programs' for their own numbers, the papers' for theirs."""
    built: dict[str, int] = {}
    for number in published.rows():
        if number.document != document:
            continue
        config = load_config(number.recipe, number.overrides)
        network = f"{number.dataset} {config.model}"
        if network not in built:
            with torch.device("meta"):
                model = build.create_model(config, data.find(number.dataset))  # type: ignore[arg-type]
            built[network] = sum(parameter.numel() for parameter in model.parameters())
        assert counted(number) == {built[network]}, number.id


@pytest.mark.parametrize(
    ("recipe", "updates", "kernel", "bias", "last", "decay"),
    [("speed/cifar10_94", 200, 0.24, 0.02, 0.01, 0.2), ("speed/cifar10_96", 1500, 0.15, 0.02, 0.005, 0.15)],
)
def test_every_parameter_of_airbench_has_its_rate(
    recipe: str, updates: int, kernel: float, bias: float, last: float, decay: float
) -> None:
    """Kernels by Muon, BN's biases and the head by AdamW, biases undecayed; whitening does not move."""
    config = load_config(recipe)
    model = build.create_model(config, data.find("cifar10"))  # type: ignore[arg-type]
    assert config.optim.freeze
    build.optim.freeze(model, config.optim.freeze)
    optimizer = build.create_optimizer(config, model, 10)
    found = {
        id(parameter): (group["muon"], pytest.approx(config.optim.lr * group["lr_factor"]), group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    expected = {}
    for name, parameter in model.named_parameters():
        if name == "classifier.weight":
            expected[id(parameter)] = (False, last, decay)
        elif name.startswith("blocks") and parameter.ndim == 4:
            expected[id(parameter)] = (True, kernel, decay)
        elif name.startswith("blocks") and name.endswith("bias"):
            expected[id(parameter)] = (False, bias, 0.0)
    assert expected == found
    images, batch = 50_000, config.train.batch_size
    assert images % batch == 0
    assert config.train.epochs * images // batch == updates
    factor = build.create_schedule(config, images // batch)
    assert [factor(step) for step in (0, updates // 2, updates - 1)] == pytest.approx([1, 0.5, 1 / updates])


def test_airbench96_is_the_programs_network() -> None:
    """Three convolutions a block, of 128, 384 and 512 channels."""
    model = build.create_model(load_config("speed/cifar10_96"), data.find("cifar10"))  # type: ignore[arg-type]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [24, *3 * [128], *3 * [384], *3 * [512]]


def test_muons_rate_and_momentum_are_the_programs_for_a_summed_loss() -> None:
    """The program adds gradients of a sum over 2,000 images up, Nesterov's way; ours averages those of their mean."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3, bias=False)
    ours = optim.create(layer, "muon", lr=0.24, momentum=0.6, ns_steps=3, weight_decay=0.0)
    weight, momentum = layer.weight.detach().clone().flatten(1), torch.zeros(5, 27)
    for _ in range(3):
        gradient = torch.randn(5, 27)
        layer.weight.grad = gradient.view(5, 3, 3, 3) / 2000
        ours.step()
        momentum = 0.6 * momentum + gradient
        weight -= 0.24 * orthogonalise((gradient + 0.6 * momentum)[None], 3)[0]
    torch.testing.assert_close(layer.weight.detach().flatten(1), weight, rtol=0, atol=0.01)


def test_rates_of_sgd_for_a_summed_loss_and_smaller_logits() -> None:
    """The sum's rate times images, and for a layer whose outputs are scaled by s instead of t, times (t / s)^2."""
    torch.manual_seed(0)
    images, labels = torch.randn(6, 4, dtype=torch.double), torch.tensor([0, 1, 2, 0, 1, 2])
    theirs = torch.randn(3, 4, dtype=torch.double).requires_grad_()
    ours = (theirs.detach() * 9 / 256).requires_grad_()
    sgd = [
        torch.optim.SGD([theirs], lr=0.67, momentum=0.85, nesterov=True),
        torch.optim.SGD([ours], lr=0.67 * len(images) * (9 / 256) ** 2, momentum=0.85, nesterov=True),
    ]
    for _ in range(3):
        nn.functional.cross_entropy(images @ theirs.T / 256, labels, reduction="sum").backward()
        nn.functional.cross_entropy(images @ ours.T / 9, labels).backward()
        for optimizer in sgd:
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours / 9, theirs / 256)
