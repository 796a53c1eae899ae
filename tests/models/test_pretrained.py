"""Weights of torchvision and timm in our networks: the same outputs. Runs where the two packages are installed."""

import warnings

import pytest
import torch
from models.packages import import_or_skip
from torch import nn

from pictorch.config import UserError
from pictorch.models import create
from pictorch.models.pretrained import key_map, load


@pytest.fixture(scope="module")
def packages():
    torchvision, timm = import_or_skip()
    return torchvision.models, timm


def ignoring_warnings(build):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build()


# Ours with options, whose the other is, its name, the size of the images.
NETWORKS = [
    *((name, {}, whose, name, 64)
      for name in ("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "densenet121")
      for whose in ("torchvision", "timm")),
    ("vgg11", {}, "torchvision", "vgg11", 64),
    ("vgg16_bn", {}, "torchvision", "vgg16_bn", 64),
    ("googlenet_torchvision", {}, "torchvision", "googlenet", 64),
    ("googlenet_torchvision", {"aux_logits": True}, "torchvision", "googlenet", 64),
    ("mobilenet_v2_100", {}, "torchvision", "mobilenet_v2", 64),
    ("mobilenet_v2_100", {}, "timm", "mobilenetv2_100", 64),
    ("shufflenet_v2_100", {"stride2_unit": "halved"}, "torchvision", "shufflenet_v2_x1_0", 64),
    ("vit_b_16", {}, "torchvision", "vit_b_16", 224),
    ("vit_ti_16", {}, "timm", "vit_tiny_patch16_224", 224),
    ("xception_imagenet", {}, "timm", "legacy_xception", 96),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "whose", "theirs", "size"), NETWORKS)
def test_outputs_agree(packages, name, options, whose, theirs, size):
    torch.manual_seed(0)
    models, timm = packages
    extra = {"transform_input": False, "init_weights": False, **options} if theirs == "googlenet" else {}
    if whose == "timm":
        other = ignoring_warnings(lambda: timm.create_model(theirs))
    else:
        other = ignoring_warnings(lambda: getattr(models, theirs)(**{"aux_logits": False, **extra} if extra else {}))
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.uniform_(tensor, 0.5, 1.5)
    model = create(name, num_classes=1000, image_size=224, **options)
    load(model, other.state_dict())
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = other.eval()(images)
        found = model.eval()(images)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def renamed(model):
    """The state of the same network by somebody who names everything otherwise."""
    return {f"net.{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(model.state_dict().items())}


def test_the_order_is_the_map():
    model, other = create("resnet_20"), create("resnet_20")
    state = renamed(other)
    load(model, state)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), other.parameters(), strict=True))
    assert key_map(model, state)["stem.conv.weight"] == "net.0.weight"
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert key_map(model, without) == key_map(model, state)


def test_weights_of_another_network_are_refused():
    model = create("resnet_20")
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(UserError, match=r"another network: net.*weight has shape \(16, 16, 3, 3\) where stages.1.0"):
        load(model, renamed(create("resnet_32")))
    with pytest.raises(UserError, match=r"another network: net.0.weight has shape \(16, 1, 3, 3\) where stem.conv"):
        load(model, renamed(create("resnet_20", in_channels=1)))
    with pytest.raises(UserError, match=r"another network: \d+ tensors, ours has \d+"):
        load(model, dict(list(renamed(create("resnet_20")).items())[:-1]))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
