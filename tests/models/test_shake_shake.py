"""Shake-shake against a slow forward written from the paper, with its random numbers laid open."""

import copy
import itertools
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pictorch.config.errors import OptionError
from pictorch.models import create
from pictorch.models.complexity import activation_bytes, count
from pictorch.models.shake_shake import Shake, ShakeUnit, Skip


def reference(state, images, *, units, shake=None, seed1=False, first_pixel=-1, training=False):
    """Return logits. `shake` is called for each unit, with the number of images, and returns alpha and beta."""

    def bn(x, name):
        mean, var = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training)

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    def branch(x, name, stride):
        x = torch.relu(bn(conv(torch.relu(x), f"{name}.conv1", stride), f"{name}.bn1"))
        return bn(conv(x, f"{name}.conv2"), f"{name}.bn2")

    def pixels(x, stride, first):
        """Every `stride`-th pixel from `first` on, in a map that goes on in zeros."""
        side = -(-x.shape[2] // stride)
        framed = F.pad(x, (1, 2, 1, 2))
        places = 1 + first + stride * torch.arange(side)
        return framed[:, :, places][:, :, :, places]

    def skip(x, name, stride):
        x = torch.relu(x)
        left = conv(pixels(x, stride, 0), f"{name}.conv1")
        right = conv(pixels(x, stride, first_pixel), f"{name}.conv2")
        return bn(torch.cat([left, right], 1), f"{name}.bn")

    x = bn(conv(images, "stem.conv"), "stem.bn")
    x = torch.relu(x) if seed1 else x
    for i in range(3):
        for j in range(units):
            unit = f"stages.{i}.{j}"
            stride = 2 if i > 0 and j == 0 else 1
            first, second = branch(x, f"{unit}.branch1", stride), branch(x, f"{unit}.branch2", stride)
            alpha, beta = shake(len(x)) if shake else (0.5, 0.5)
            backward = beta * first + (1 - beta) * second
            forward = alpha * first + (1 - alpha) * second
            x = skip(x, f"{unit}.skip", stride) if x.shape[1] != first.shape[1] else x
            # The value of one mixture with the gradient of the other
            x = x + backward + (forward - backward).detach()
    x = x if seed1 else torch.relu(x)
    x = F.adaptive_avg_pool2d(x, 1).flatten(1)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


SMALL = {"depth": 14, "base_channels": 4}
CASES = {
    "the paper's": (SMALL, {}),
    "no projection in the first stage": ({**SMALL, "base_channels": 16}, {}),
    "seed 1": ({**SMALL, "as_published": "seed1"}, {"seed1": True, "first_pixel": 1}),
    "seed 2": ({**SMALL, "as_published": "seed2"}, {"first_pixel": 1}),
}


def randomised(**options):
    torch.manual_seed(0)
    model = create("shake_shake", **options).double()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "bn" in name and "num_batches" not in name:
                tensor.add_(torch.rand_like(tensor) * 0.5)
    return model


def assert_equals_reference(model, images, **expected):
    parameters = dict(model.named_parameters())
    state = {**dict(model.named_buffers()), **parameters}
    torch.manual_seed(1)
    wanted = reference(state, images, units=2, training=model.training, **expected)
    wanted_gradients = torch.autograd.grad(wanted.square().sum(), list(parameters.values()))
    torch.manual_seed(1)
    logits = model(images)
    gradients = torch.autograd.grad(logits.square().sum(), list(parameters.values()))
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-9)
    for name, ours, theirs in zip(parameters, gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("size", [32, 7])
@pytest.mark.parametrize(("options", "expected"), CASES.values(), ids=CASES.keys())
def test_evaluation_equals_the_reference(options, expected, size):
    images = torch.randn(3, 3, size, size, dtype=torch.double)
    assert_equals_reference(randomised(**options).eval(), images, **expected)


@pytest.mark.parametrize("image", [True, False], ids=["image", "batch"])
@pytest.mark.parametrize("backward", [True, False], ids=["shake", "even"])
@pytest.mark.parametrize("forward", [True, False], ids=["shake", "even"])
@pytest.mark.parametrize("case", ["the paper's", "seed 1"])
def test_training_equals_the_reference(case, forward, backward, image):
    def shake(n):
        if not forward and not backward:
            return 0.5, 0.5
        alpha, beta = torch.rand(2, n if image else 1, 1, 1, 1, dtype=torch.double)
        return alpha if forward else 0.5, beta if backward else 0.5

    options, expected = CASES[case]
    model = randomised(**options, shake_forward=forward, shake_backward=backward, shake_image=image).train()
    assert_equals_reference(model, torch.randn(3, 3, 16, 16, dtype=torch.double), shake=shake, **expected)


@pytest.mark.parametrize("modes", [(True, True, True), (True, False, True), (False, True, False)])
def test_evaluation_is_the_mean_of_the_branches_whatever_the_modes(modes):
    unit = ShakeUnit(4, 4, 1, modes, -1).eval()
    x = torch.randn(3, 4, 5, 5)
    activated = torch.relu(x)
    mean = (unit.branch1(activated) + unit.branch2(activated)) / 2
    torch.testing.assert_close(unit(x), x + mean)
    assert torch.equal(unit(x), unit(x))


class Constant(nn.Module):
    """A branch that puts out the same map whatever comes in, and keeps its gradient."""

    def __init__(self, value, size):
        super().__init__()
        self.map = nn.Parameter(torch.full(size, float(value), dtype=torch.double))

    def forward(self, x):
        return self.map


def mixtures(modes, size=(64, 2, 3, 3), training=True):
    """Return alpha and beta [N] of one pass of a unit, read off the output and the gradients of its branches."""
    unit = ShakeUnit(2, 2, 1, modes, -1).train(training)
    unit.branch1, unit.branch2 = Constant(1, size), Constant(0, size)
    x = torch.zeros(size, dtype=torch.double, requires_grad=True)
    out = unit(x)
    gradient = torch.randn(size, dtype=torch.double)
    out.backward(gradient)
    assert torch.equal(x.grad, gradient)
    first, second = unit.branch1.map.grad, unit.branch2.map.grad
    torch.testing.assert_close(first + second, gradient)
    alpha, beta = out.detach(), first / gradient
    for mixture in (alpha, beta):
        torch.testing.assert_close(mixture, mixture[:, :1, :1, :1].expand(size))
    return alpha[:, 0, 0, 0], beta[:, 0, 0, 0]


HALF = torch.full((64,), 0.5, dtype=torch.double)


def test_shake_shake_image():
    torch.manual_seed(0)
    alpha, beta = mixtures((True, True, True), (4000, 1, 1, 1))
    for mixture in (alpha, beta):
        assert 0 <= mixture.min() < 0.01
        assert 0.99 < mixture.max() < 1
        assert abs(mixture.mean() - 0.5) < 0.025
        assert abs(mixture.var() - 1 / 12) < 0.01
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1]) < 0.08
    again, back_again = mixtures((True, True, True), (4000, 1, 1, 1))
    assert not torch.equal(alpha, again)
    assert not torch.equal(beta, back_again)


def test_shake_shake_batch():
    alpha, beta = mixtures((True, True, False))
    assert alpha.unique().numel() == 1
    torch.testing.assert_close(beta, beta[:1].expand(64))
    assert abs(alpha[0] - beta[0]) > 1e-6


def test_shake_even_is_even_backward_and_does_not_keep():
    alpha, beta = mixtures((True, False, True))
    assert alpha.unique().numel() == 64
    torch.testing.assert_close(beta, HALF)


def test_even_shake():
    alpha, beta = mixtures((False, True, True))
    torch.testing.assert_close(alpha, HALF)
    assert beta.unique().numel() == 64


@pytest.mark.parametrize(("modes", "training"), [((False, False, True), True), ((True, True, True), False)])
def test_even_even_and_evaluation(modes, training):
    alpha, beta = mixtures(modes, training=training)
    torch.testing.assert_close(alpha, HALF)
    torch.testing.assert_close(beta, HALF)


def test_every_unit_draws_its_own():
    seen = []
    model = create("shake_shake", depth=14, base_channels=4)
    for module in model.modules():
        if isinstance(module, ShakeUnit):
            module.register_forward_hook(lambda *_: seen.append(torch.get_rng_state()))
    model(torch.randn(2, 3, 8, 8))
    assert len(seen) == 6
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(seen))


def test_a_seed_repeats_the_step_and_evaluation_draws_nothing():
    model, images = create("shake_shake", depth=8, base_channels=4), torch.randn(2, 3, 8, 8)
    outputs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outputs.append(copy.deepcopy(model)(images))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    before = torch.get_rng_state()
    model.eval()(images)
    assert torch.equal(before, torch.get_rng_state())


def test_numeric_gradients_fail_by_design_unless_alpha_is_beta():
    first, second = (torch.randn(2, 1, 2, 2, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: Shake.apply(a, b, 0.3, 0.3), (first, second))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda a, b: Shake.apply(a, b, 0.3, 0.6), (first, second))


@pytest.mark.parametrize("modes", [(True, True), (True, False), (False, True)])
def test_the_mixture_keeps_no_map_for_the_backward_pass(modes):
    def kept(forward, backward):
        options = {"shake_forward": forward, "shake_backward": backward}
        with torch.device("meta"):
            model = create("shake_shake", depth=8, base_channels=8, **options)
        return activation_bytes(model, in_channels=3, image_size=32, batch_size=8)

    # alpha, beta of 8 images in 3 units
    assert kept(*modes) - kept(False, False) <= 2 * 8 * 4 * 3


@pytest.mark.parametrize("randomness", ["different", "same"])
def test_training_of_stacked_networks_under_vmap(randomness):
    networks = [create("shake_shake", depth=8, base_channels=4) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    parameters, buffers = torch.func.stack_module_state(networks)
    images = torch.randn(4, 3, 8, 8)

    def loss(parameters, buffers):
        return torch.func.functional_call(networks[0], (parameters, buffers), (images,)).square().sum()

    gradients = torch.vmap(torch.func.grad(loss), randomness=randomness)(parameters, buffers)
    first, second = gradients["classifier.weight"]
    assert first.isfinite().all()
    assert torch.allclose(first, second) == (randomness == "same")


@pytest.mark.parametrize(("offset", "wanted"), [(-1, [0.0, 1, 3, 5]), (1, [1.0, 3, 5, 7])])
def test_the_second_subsampling_sees_the_pixels_beside(offset, wanted):
    skip = Skip(1, 2, 2, offset).eval()
    for conv in (skip.conv1, skip.conv2):
        nn.init.ones_(conv.weight)
    row = torch.arange(8.0).expand(1, 1, 8, 8) * (torch.arange(8.0)[:, None] > 0)
    out = skip(row) * (1 + skip.bn.eps) ** 0.5
    torch.testing.assert_close(out[0, 0, 1], torch.tensor([0.0, 2, 4, 6]))
    torch.testing.assert_close(out[0, 1, 1], torch.tensor(wanted))


def test_parts():
    with torch.device("meta"):
        paper, seed1 = (create("shake_shake_26_2x32d", as_published=who) for who in (None, "seed1"))
    assert [type(layer).__name__ for layer in paper.stem] == ["Conv2d", "BatchNorm2d"]
    assert [type(layer).__name__ for layer in seed1.stem] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert [[unit.skip is not None for unit in stage] for stage in paper.stages] == [[True, False, False, False]] * 3
    assert [stage[0].skip is not None for stage in seed1.stages] == [False, True, True]
    for model, wanted in ((paper, (55, 52, 1)), (seed1, (53, 51, 1))):
        kinds = Counter(type(module) for module in model.modules())
        assert (kinds[nn.Conv2d], kinds[nn.BatchNorm2d], kinds[nn.Linear]) == wanted


# Seed document 1's MNIST table, and its CIFAR-10 table as the later program has it.
@pytest.mark.parametrize(
    ("name", "as_published", "channels", "size", "params", "macs"),
    [
        ("shake_shake_26_2x32d", "seed1", 1, 28, 2_931_690, 333_395_712),
        ("shake_shake_26_2x96d", "seed1", 1, 28, 26_330_026, 2_999_198_976),
        ("shake_shake_26_2x96d", "seed2", 3, 32, 26_192_922, 3_776_892_672),
    ],
)
def test_networks_of_the_seed_tables(name, as_published, channels, size, params, macs):
    with torch.device("meta"):
        model = create(name, in_channels=channels, image_size=size, as_published=as_published)
    assert count(model, in_channels=channels, image_size=size) == (params, macs)


def test_initial_weights():
    torch.manual_seed(0)
    model = create("shake_shake", depth=8, base_channels=32)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] ** 2 * module.out_channels
            assert abs(module.weight.std() / (2 / fan_out) ** 0.5 - 1) < 5 / (2 * module.weight.numel()) ** 0.5
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
    assert model.classifier.bias.eq(0).all()
    assert 0.9 * 128**-0.5 < model.classifier.weight.abs().max() <= 128**-0.5


@pytest.mark.parametrize("as_published", [None, "seed1", "seed2"])
@pytest.mark.parametrize(("in_channels", "image_size"), [(1, 3), (1, 8), (1, 28), (3, 33), (3, 64), (3, 224)])
def test_image_sizes(in_channels, image_size, as_published):
    sizes = {"in_channels": in_channels, "image_size": image_size}
    with torch.device("meta"):
        model = create("shake_shake", depth=8, base_channels=8, as_published=as_published, **sizes)
        features = model.forward_features(torch.empty(2, in_channels, image_size, image_size))
    assert features.shape == (2, 32, -(-image_size // 4), -(-image_size // 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "depth: required; a network of three stages has depths 6n+2 (8, 14, 20, 26 ...)"),
        ({"depth": 28}, "depth: a network of three stages has depths 6n+2, got 28; nearest: 26, 32"),
        ({"depth": 2}, "got 2; nearest: 8"),
        ({"depth": 26, "base_channels": 33}, "base_channels: expected an even number"),
        ({"depth": 26, "base_channels": 0}, "base_channels: expected a whole number of at least 1, got 0"),
        ({"depth": 26, "base_channels": None}, "base_channels: expected a whole number, got null"),
        ({"depth": 26, "shake_forward": "keep"}, "shake_forward: expected true or false, got 'keep'"),
        ({"depth": 26, "shake_image": 1}, "shake_image: expected true or false, got 1"),
        ({"depth": 26, "image_size": 2}, "image_size: the network halves 2 times and needs at least 3, got 2"),
        ({"depth": 26, "as_published": "seed3"}, "as_published: expected 'seed1' or 'seed2' or null, got 'seed3'"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(OptionError) as caught:
        create("shake_shake", **options)
    assert str(caught.value).startswith("shake_shake: ")
    assert message in str(caught.value)
