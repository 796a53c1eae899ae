"""Which group a parameter is in, which layer is the head, and what does not move when it is frozen."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pictorch import models, optim
from pictorch.config import UserError
from pictorch.models.ghost import ghost_batch_norm
from pictorch.optim import freeze, head, parameter_groups


def names_of(model: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)] for p in parameters}


def undecayed(model: nn.Module) -> set[str]:
    groups = parameter_groups(model, weight_decay=0.1, decay_norm_and_bias=False)
    return names_of(model, [p for g in groups if g["weight_decay"] == 0 for p in g["params"]])


@pytest.mark.parametrize(
    "name", ["resnet_preact_20", "vgg_15", "mobilenet_v2", "se_resnet_preact_20", "densenet_bc_100_12"]
)
def test_only_weights_are_decayed_in_convolutional_networks(name: str) -> None:
    """Checked by the names, which the groups do not look at."""
    with torch.device("meta"):
        model = models.create(name, num_classes=10, in_channels=3, image_size=32)
    expected = {n for n, p in model.named_parameters() if n.endswith("bias") or ".bn" in f".{n}" or p.ndim == 1}
    assert undecayed(model) == expected
    assert expected


def test_a_vits_tokens_norms_and_biases_are_not_decayed() -> None:
    with torch.device("meta"):
        model = models.create("vit_s_4", num_classes=10, in_channels=3, image_size=32)
    rest = {name for name, p in model.named_parameters()} - undecayed(model)
    assert {"class_token", "position_embedding"} <= undecayed(model)
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    assert all(shapes[name] >= 2 and name.endswith("weight") for name in rest)
    assert rest == {name for name, ndim in shapes.items() if ndim == 2 or ndim == 4}


def test_names_may_say_what_is_decayed_of_the_weights() -> None:
    """Document 2's newest program: only names with conv.weight in them, 2,992 parameters of ResNet-preact-20's."""
    with torch.device("meta"):
        model = models.create("resnet_preact_20", shortcut="B")
    options = {"weight_decay": 0.1, "decay_norm_and_bias": False}
    groups = parameter_groups(model, **options, decay_only=["*conv.weight", "*.shortcut.weight"])  # type: ignore[arg-type]
    (decayed,) = (group["params"] for group in groups if group["weight_decay"])
    assert sum(p.numel() for p in decayed) == 2992
    assert names_of(model, decayed) == {"stem.conv.weight", "stages.1.0.shortcut.weight", "stages.2.0.shortcut.weight"}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    with pytest.raises(UserError, match=r"no parameter has a name like 'cov\.weight'; the nearest are"):
        parameter_groups(model, **options, decay_only=["cov.weight"])  # type: ignore[arg-type]


def test_what_a_parameter_is_does_not_hang_on_its_name() -> None:
    class Odd(nn.Module):
        """A layer whose weight is called bias, beside a table, attention, and a shared layer."""

        def __init__(self) -> None:
            super().__init__()
            self.bn_bias = nn.Linear(3, 3, bias=False)
            self.again = self.bn_bias
            self.attention = nn.MultiheadAttention(4, 2)
            self.table = nn.Embedding(5, 4)
            self.weight = nn.Parameter(torch.zeros(2, 2))
            self.norm = nn.LayerNorm((2, 2))

    assert undecayed(Odd()) == {
        "weight",
        "table.weight",
        "norm.weight",
        "norm.bias",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
    }


def test_heads_have_their_own_rate() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    last = list(head(model, 2).parameters())
    optimizer = optim.create(
        model, "sgd", lr=0.1, weight_decay=0.1, decay_norm_and_bias=False, lr_head_factor=10.0, head=last
    )
    found = [(g["lr"], g["lr_factor"], g["weight_decay"], names_of(model, g["params"])) for g in optimizer.param_groups]
    assert found == [
        (0.1, 1.0, 0.1, {"0.weight"}),
        (0.1, 1.0, 0.0, {"0.bias", "1.weight", "1.bias"}),
        (1.0, 10.0, 0.1, {"3.weight"}),
        (1.0, 10.0, 0.0, {"3.bias"}),
    ]
    (one,) = optim.create(model, "sgd", lr=0.1, weight_decay=0.1, head=last).param_groups
    assert one["lr_factor"] == 1
    assert [id(p) for p in one["params"]] == [id(p) for p in model.parameters()]


def test_muon_gets_the_hidden_weights() -> None:
    with torch.device("meta"):
        model = models.create("resnet_preact_20", num_classes=10, in_channels=3, image_size=32)
    optimizer = optim.create(
        model,
        "muon",
        lr=0.02,
        weight_decay=0.0,
        head=list(head(model, 10).parameters()),
        lr_head_factor=2.0,
        adamw_lr=1e-3,
    )
    muon, rest, last = optimizer.param_groups
    assert (muon["muon"], rest["muon"], last["muon"]) == (True, False, False)
    assert names_of(model, muon["params"]) == {name for name, p in model.named_parameters() if p.ndim == 4}
    assert names_of(model, last["params"]) == {"classifier.weight", "classifier.bias"}
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.02, 1e-3, 2e-3])


@pytest.mark.parametrize(
    "name", ["googlenet_aux", "vgg_15", "se_resnet_preact_20", "shufflenet_v2", "vit_s_4", "airbench94"]
)
def test_the_head_is_the_classifier(name: str) -> None:
    with torch.device("meta"):
        model = models.create(name, num_classes=7, in_channels=3, image_size=32)
    assert head(model, 7) is model.get_submodule("classifier")


def test_the_head_may_be_a_convolution_and_must_be_there() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Conv2d(4, 3, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(3, 3, 3))
    assert head(model, 3) is model[1]
    with pytest.raises(UserError, match="Sequential has no Linear or 1x1 Conv2d layer of 9 outputs"):
        head(model, 9)


def trained(model: nn.Module) -> dict[str, Tensor]:
    """Return the state after one step of SGD, and after evaluation and training modes were set."""
    optimizer = optim.create(model, "sgd", lr=0.1, weight_decay=0.1, momentum=0.9)
    model.eval()
    model.train()
    model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()
    return model.state_dict()


def moved(pattern: str) -> tuple[set[str], list[str]]:
    """Return which tensors move in a step of a network with `pattern` frozen, and what `freeze` says that it froze."""
    torch.manual_seed(0)
    model = models.create("resnet_preact_20", num_classes=10, in_channels=3, image_size=32)
    before = copy.deepcopy(model.state_dict())
    frozen = freeze(model, [pattern])
    after = trained(copy.deepcopy(model))
    return {name for name in before if not torch.equal(before[name], after[name])}, frozen


def test_a_frozen_backbone_stays_bit_for_bit() -> None:
    changed, frozen = moved("backbone")
    assert changed == {"classifier.weight", "classifier.bias"}
    assert len(frozen) == 59 - 2


def test_frozen_modules_stay_and_others_move() -> None:
    changed, frozen = moved("stages.0*")
    assert frozen
    assert all(name.startswith("stages.0") for name in frozen)
    assert not any(name.startswith("stages.0") for name in changed)
    assert any(name.endswith("running_mean") for name in changed)
    assert "classifier.weight" in changed


def test_freezing_goes_with_ghost_batches_in_either_order() -> None:
    def ghost(model: nn.Module) -> None:
        ghost_batch_norm(model, 2)

    def fixed(model: nn.Module) -> None:
        freeze(model, ["0"])

    for steps in ((ghost, fixed), (fixed, ghost)):
        model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
        for step in steps:
            step(model)
        model.train()(torch.randn(4, 3, 2, 2))
        assert model[0].running_mean.eq(0).all()
        assert model[1].running_mean.ne(0).all()


def test_freezing_twice_is_freezing_once() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    freeze(model, ["0"])
    first = type(model[0])
    assert freeze(model, ["0"]) == ["0.weight", "0.bias"]
    assert type(model[0]) is first


def test_a_pattern_without_a_match_is_told_the_nearest_names() -> None:
    model = models.create("resnet_preact_20", num_classes=10, in_channels=3, image_size=32)
    name = next(name for name, _ in model.named_children())
    with pytest.raises(UserError, match=rf"no module has a name like '{name}x\*'; the nearest names are .*'{name}'"):
        freeze(model, [f"{name}x*"])
    assert all(p.requires_grad for p in model.parameters())
