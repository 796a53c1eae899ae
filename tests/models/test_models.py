"""The registry, and the contract that every family keeps: one row of CASES a kind of network."""

import copy

import pytest
import torch
from torch import nn

from pictorch import models
from pictorch.config.errors import OptionError, UserError
from pictorch.models import create, list_models, resolve
from pictorch.models.init import Undrawn
from pictorch.models.vit import VisionTransformer

CASES = {
    "resnet basic A": ("resnet", {"depth": 8}),
    "resnet basic B": ("resnet", {"depth": 8, "shortcut": "B"}),
    "resnet bottleneck": ("resnet", {"depth": 11, "block_type": "bottleneck"}),
    "resnet imagenet": ("resnet", {"layout": "imagenet", "depth": 18, "base_channels": 8, "stem": "imagenet"}),
    "preact basic A": ("resnet_preact", {"depth": 8}),
    "preact bottleneck": ("resnet_preact", {"depth": 11, "block_type": "bottleneck", "add_last_bn": True}),
    "preact imagenet": (
        "resnet_preact",
        {"layout": "imagenet", "depth": 18, "base_channels": 8, "stem": "imagenet", "remove_first_relu": True},
    ),
    "mobilenet v1": ("mobilenet_v1", {"width": 0.25}),
    "mobilenet v2": ("mobilenet_v2", {"width": 0.35}),
    "shufflenet v1": ("shufflenet_v1", {"groups": 3, "width": 0.5}),
    "shufflenet v2": ("shufflenet_v2", {"width": 0.5}),
    "shufflenet v2 halved": ("shufflenet_v2", {"width": 0.5, "stride2_unit": "halved", "stem": "imagenet"}),
    "resnet9": ("resnet9", {"base_channels": 4}),
    "airbench 94": ("airbench", {"base_channels": 8}),
    "airbench 96": ("airbench", {"variant": 96, "base_channels": 8}),
    "googlenet": ("googlenet", {"stem": "imagenet", "drop_rate": 0.0}),
    "googlenet bn": ("googlenet", {"stem": "imagenet", "batch_norm": True, "branch5x5": "3x3"}),
    "xception": ("xception", {"stem": "imagenet", "drop_rate": 0.0}),
    "vit": ("vit", {"depth": 2, "dim": 32, "heads": 2}),
    "vit mean": ("vit", {"depth": 2, "dim": 32, "heads": 4, "pool": "mean", "patch_size": 8, "dropout": 0.1}),
    "se basic": ("se_resnet", {"depth": 8}),
    "wrn": ("wrn", {"depth": 10, "widening_factor": 2, "base_channels": 8}),
    "wrn of seed 1": ("wrn", {"depth": 10, "widening_factor": 1, "as_published": "seed1"}),
    "resnext": ("resnext", {"depth": 11, "cardinality": 4, "base_channels": 4}),
    "shake-shake": ("shake_shake", {"depth": 8, "base_channels": 8}),
    "shake-shake even batch": (
        "shake_shake",
        {"depth": 8, "base_channels": 16, "shake_forward": False, "shake_image": False, "as_published": "seed2"},
    ),
    "vgg": ("vgg", {"layers": [1, 1], "base_channels": 8, "batch_norm": True}),
    "vgg hidden": ("vgg", {"layers": [1, 2, 1], "base_channels": 8, "head": "fc512", "drop_rate": 0.0}),
    "pyramidnet": ("pyramidnet", {"depth": 8, "alpha": 8}),
    "pyramidnet bottleneck": (
        "pyramidnet",
        {"layout": "imagenet", "depth": 50, "alpha": 32, "base_channels": 4, "stem": "imagenet"},
    ),
    "densenet": ("densenet", {"depth": 10, "growth_rate": 4}),
    "densenet bc": ("densenet", {"depth": 16, "growth_rate": 4, "block_type": "bottleneck", "checkpointing": True}),
    "densenet imagenet": ("densenet", {"layout": "imagenet", "blocks": [2, 1], "growth_rate": 4, "stem": "imagenet"}),
    "se preact": ("se_resnet_preact", {"depth": 11, "block_type": "bottleneck", "add_last_bn": True}),
}
SMALLEST = [
    "resnet basic A",
    "preact basic A",
    "mobilenet v1",
    "mobilenet v2",
    "shufflenet v1",
    "shufflenet v2",
    "se basic",
    "wrn",
    "resnext",
    "shake-shake",
]
SMALLEST += ["resnet9", "airbench 94", "airbench 96"]
SMALLEST += ["googlenet", "xception", "vit", "vgg", "pyramidnet", "densenet", "se preact"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def model(request):
    name, options = request.param
    return create(name, num_classes=7, **options)


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32)


def test_logits_are_finite_and_of_the_right_shape(model, images):
    logits = model(images)
    assert logits.shape == (4, 7)
    assert logits.isfinite().all()


def test_every_parameter_has_a_gradient(model, images):
    model(images).square().sum().backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_forward_is_head_after_features(model, images):
    model.eval()
    features = model.forward_features(images)
    if isinstance(model, VisionTransformer):
        assert features.shape[::2] == (4, model.feature_dim)
    else:
        assert features.shape[:2] == (4, model.feature_dim)
        # The least value of GELU, and of ReLU 0
        assert features.min() > -0.17
    assert torch.equal(model.forward_head(features), model(images))


def test_reset_classifier(model, images):
    model.eval().double()
    features = model.forward_features(images.double())
    model.reset_classifier(3)
    assert torch.equal(model.forward_features(images.double()), features)
    assert model(images.double()).shape == (4, 3)
    assert model.classifier.bias is None or model.classifier.bias.eq(0).all()
    with pytest.raises(OptionError, match="num_classes: expected a whole number of at least 1, got 0"):
        model.reset_classifier(0)


def test_evaluation_is_deterministic_and_changes_nothing(model, images):
    model.eval()
    before = copy.deepcopy(model.state_dict())
    assert torch.equal(model(images), model(images))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_images_do_not_see_each_other_in_evaluation(model, images):
    model.eval()
    torch.testing.assert_close(model(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-5)


def test_state_dict_and_deepcopy_round_trip(model, images):
    model(images)
    model.eval()
    twin = copy.deepcopy(model)
    assert torch.equal(twin(images), model(images))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert not torch.equal(twin(images), model(images))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(images), model(images))


def test_channels_last_equals_contiguous(model, images):
    model.eval()
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    features = model.forward_features(images.to(memory_format=torch.channels_last))
    if not isinstance(model, VisionTransformer):
        assert features.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model.forward_head(features), expected, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_is_finite_forward_and_backward(model, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.bfloat16
    logits.float().square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_one_seed_gives_one_network():
    networks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        networks.append(create("resnet_20").state_dict())
    first, same, other = networks
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


@pytest.mark.parametrize("name", ["resnet", "resnet_preact"])
@pytest.mark.parametrize(("in_channels", "image_size"), [(1, 8), (1, 28), (3, 33), (3, 3)])
def test_image_sizes_of_the_cifar_layout(name, in_channels, image_size):
    model = create(name, depth=8, in_channels=in_channels, image_size=image_size).eval()
    assert model(torch.randn(2, in_channels, image_size, image_size)).shape == (2, 10)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_meta_construction_allocates_nothing(case):
    name, options = case
    with torch.device("meta"):
        model = create(name, **options)
    assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))
    real = create(name, **options).state_dict()
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in real.items()}


@pytest.mark.parametrize("case", SMALLEST)
def test_export(case, images):
    name, options = CASES[case]
    model = create(name, **options).eval()
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    torch.testing.assert_close(exported(images[:3]), model(images[:3]))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own compiler
@pytest.mark.parametrize("case", SMALLEST)
@pytest.mark.slow
def test_compile_without_graph_breaks(case, images):
    torch.compiler.reset()  # all families share one forward, and torch gives up after so many kinds of a function
    name, options = CASES[case]
    model = create(name, **options)
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")

    def logits(network):
        torch.manual_seed(1)
        return network(images)

    torch.testing.assert_close(logits(compiled), logits(model))
    logits(compiled).sum().backward()
    logits(model).sum().backward()
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch's own compiler
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("case", ["preact basic A", "shake-shake"])
def test_inductor(case, images):
    torch.compiler.reset()
    name, options = CASES[case]
    model = create(name, **options)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True)
    compiled.eval()
    model.eval()
    torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-4)
    compiled.train()
    compiled(images).sum().backward()
    assert all(p.grad.isfinite().all() for p in compiled.parameters())


# The attention of several networks is computed one by one on the CPU, and torch says so.
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("case", SMALLEST)
def test_stacked_networks_under_vmap(case, images):
    name, options = CASES[case]
    networks = [create(name, **options).eval() for _ in range(2)]
    parameters, buffers = torch.func.stack_module_state(networks)

    def one(parameters, buffers):
        return torch.func.functional_call(networks[0], (parameters, buffers), (images,))

    together = torch.vmap(one)(parameters, buffers)
    for i, network in enumerate(networks):
        torch.testing.assert_close(together[i], network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_nothing_stays_undrawn(case, monkeypatch):
    """Every weight that Undrawn leaves alone is drawn by the family itself: here they are NaN until then."""

    def spoil(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is nn.init.kaiming_uniform_:
            return (kwargs["tensor"] if "tensor" in kwargs else args[0]).data.fill_(float("nan"))
        return func(*args, **kwargs)

    monkeypatch.setattr(Undrawn, "__torch_function__", spoil)
    name, options = case
    for key, parameter in create(name, **options).named_parameters():
        assert parameter.isfinite().all(), key


# The registry


def test_list_models():
    names = list_models()
    assert len(names) == len(set(names))
    assert {"resnet", "resnet_preact", "resnet_110", "resnet18", "wide_resnet50_2", "resnet_preact_164"} <= set(names)
    assert list_models("resnet_preact_*_w4") == ["resnet_preact_20_w4", "resnet_preact_50_w4"]
    assert list_models("RESNET") == []


@pytest.mark.parametrize("name", list_models())
def test_every_variant_can_be_built(name):
    family, options = resolve(name)
    assert family in list_models()
    if name != family:
        with torch.device("meta"):
            assert create(name, image_size=224).feature_dim > 0
        assert options


def test_resolve_merges_the_variant_with_other_options():
    assert resolve("resnet_110", {"shortcut": "B"}) == (
        "resnet",
        {"layout": "cifar", "depth": 110, "block_type": "basic", "shortcut": "B"},
    )
    assert resolve("resnet_110", {"depth": 110}).options["depth"] == 110
    assert resolve("resnet_110", {"depth": None}).options["depth"] == 110
    assert resolve("resnet", {"depth": 20}) == ("resnet", {"depth": 20})


def test_resolve_does_not_change_what_it_is_given():
    options = {"shortcut": "B"}
    resolve("resnet_20", options).options["shortcut"] = "A"
    assert options == {"shortcut": "B"}
    assert resolve("resnet_20").options == {"layout": "cifar", "depth": 20, "block_type": "basic"}


MISTAKES = {
    "a near name": ("resnet_111", {}, "resnet_111: unknown model; did you mean 'resnet_110'"),
    "no near name": ("xyz", {}, "xyz: unknown model; known: resnet, resnet_preact"),
    "no name": (None, {}, "None: unknown model"),
    "an unknown option": ("resnet_20", {"dept": 3}, "resnet: dept: unknown option; did you mean 'depth'?"),
    "another family's option": ("resnet_20", {"add_last_bn": True}, "resnet: add_last_bn: unknown option"),
    "a wrong choice": ("resnet_20", {"shortcut": "C"}, "resnet: shortcut: expected 'A' or 'B' or null, got 'C'"),
    "text for a number": ("resnet", {"depth": "20"}, "resnet: depth: expected a whole number or null, got '20'"),
    "truth for a number": ("resnet", {"depth": True}, "resnet: depth: expected a whole number or null, got true"),
    "a contradiction": ("resnet_110", {"depth": 20}, "resnet_110: depth: resnet_110 has 110, got 20"),
    "another contradiction": ("resnet_110", {"block_type": "bottleneck"}, "resnet_110 has 'basic', got 'bottleneck'"),
    "no classes": ("resnet_20", {"num_classes": 0}, "num_classes: expected a whole number of at least 1, got 0"),
    "half a class": ("resnet_20", {"num_classes": 2.5}, "num_classes: expected a whole number of at least 1, got 2.5"),
    "no channels": ("resnet_20", {"in_channels": -1}, "in_channels: expected a whole number of at least 1, got -1"),
    "two sizes": ("resnet_20", {"image_size": (32, 32)}, "image_size: expected a whole number of at least 1, got [32"),
    "no size": ("resnet_20", {"image_size": None}, "image_size: expected a whole number of at least 1, got null"),
}


@pytest.mark.parametrize(("name", "options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_in_words(name, options, message):
    with pytest.raises(UserError) as caught:
        create(name, **options)
    assert isinstance(caught.value, OptionError)
    assert isinstance(caught.value, ValueError)
    assert message in str(caught.value)


def test_options_that_create_supplies_are_not_options():
    with pytest.raises(OptionError, match="num_classes: unknown option"):
        resolve("resnet", {"num_classes": 3})


def test_the_public_names():
    assert set(models.__all__) == {
        "Family",
        "ModelSpec",
        "create",
        "families",
        "list_models",
        "options_of",
        "resolve",
        "summary",
    }
