"""Networks of others: found by import path, given what they take, their mistakes told with file and line."""

import sys
import textwrap

import pytest
import torch
from models.packages import import_or_skip
from torch import nn

from pictorch import models
from pictorch.config.errors import OptionError
from pictorch.models.complexity import Complexity, count

NETS = """
    import torch
    from torch import nn

    class MyNet(nn.Module):
        def __init__(self, num_classes, in_channels, width=4):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, width, 3)
            self.linear = nn.Linear(width, num_classes)

        def forward(self, images):
            return self.linear(self.conv(images).relu().mean((2, 3)))

    class LooksAtValues(MyNet):
        def forward(self, images):
            if images.sum().item() > 1e9:
                raise ValueError
            return super().forward(images)

    class Broken(MyNet):
        def __init__(self, num_classes, in_channels):
            super().__init__(num_classes, in_channels)
            self.linear = nn.Linear(5, 10)

    class Maps(MyNet):
        def forward(self, images):
            return self.conv(images)

    def make(**options):
        return MyNet(options["num_classes"], options["in_channels"], options.get("width", 4))

    def number(num_classes):
        return num_classes

    NOT_CALLABLE = 3
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module in the current directory, as a user's own lies; its name."""
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(NETS))
    (tmp_path / "nets_with_a_typo.py").write_text("def MyNet(:\n")
    (tmp_path / "nets_that_import.py").write_text("import no_such_package_anywhere\n")
    (tmp_path / "nets_that_raise.py").write_text("x = 1\ny = x + None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield name
    for module in [m for m in sys.modules if m.startswith("nets_")]:
        del sys.modules[module]


def test_a_network_by_import_path(nets):
    model = models.create(f"{nets}:MyNet", num_classes=7, in_channels=1, width=6)
    assert model.training
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    assert count(model, in_channels=1, image_size=32) == Complexity(
        params=6 * 9 + 6 + 7 * 6 + 7, macs=30 * 30 * 6 * 9 + 42
    )


def test_it_is_given_the_sizes_that_it_takes(nets):
    assert models.create(f"{nets}:make", num_classes=3, width=5).linear.weight.shape == (3, 5)


def test_a_network_of_a_package_is_found_too():
    with pytest.raises(OptionError, match=r"torch.nn:Linear: TypeError: .*missing 2 required positional"):
        models.create("torch.nn:Linear")


def test_it_is_built_for_real_under_the_meta_device(nets):
    with torch.device("meta"):
        model = models.create(f"{nets}:MyNet")
    assert not any(p.is_meta for p in model.parameters())


def test_a_network_that_looks_at_its_values_is_counted_too(nets):
    model = models.create(f"{nets}:LooksAtValues")
    assert count(model, in_channels=3, image_size=32) == count(
        models.create(f"{nets}:MyNet"), in_channels=3, image_size=32
    )


def test_resolve_checks_options_without_building(nets):
    assert models.resolve(f"{nets}:MyNet", {"width": 3}) == (f"{nets}:MyNet", {"width": 3})
    assert models.resolve(f"{nets}:make", {"anything": 3}).options == {"anything": 3}
    with pytest.raises(OptionError, match="widht: unknown option; did you mean 'width'"):
        models.resolve(f"{nets}:MyNet", {"widht": 3})


MISTAKES = {
    "no module": ("no_such_module:Net", {}, "there is no module 'no_such_module'; looked for in "),
    "no attribute": ("{nets}:MyNt", {}, "has no class or function 'MyNt'; did you mean 'MyNet'?"),
    "nothing after the colon": ("{nets}:", {}, "has no class or function ''; known: MyNet, "),
    "nothing before it": (":MyNet", {}, "expected an import path as in 'my_package.nets:MyNet', got '' before ':'"),
    "a file": ("nets.py:MyNet", {}, "there is no module 'nets'"),
    "a path": ("./nets:MyNet", {}, "expected an import path as in 'my_package.nets:MyNet', got './nets'"),
    "a number": ("{nets}:NOT_CALLABLE", {}, "has no class or function 'NOT_CALLABLE'"),
    "no network": ("{nets}:number", {}, "expected it to return an nn.Module, got int"),
    "a wrong head": ("{nets}:Broken", {}, "RuntimeError in "),
    "no logits": ("{nets}:Maps", {}, "expected logits [2, 10] for images [2, 3, 32, 32], got [2, 4, 30, 30]"),
    "a typo": ("nets_with_a_typo:MyNet", {}, "nets_with_a_typo.py, line 1: "),
    "a missing import": ("nets_that_import:MyNet", {}, "line 1: No module named 'no_such_package_anywhere'"),
    "a raising module": ("nets_that_raise:MyNet", {}, "nets_that_raise.py, line 2: unsupported operand"),
    "a wrong value": ("{nets}:MyNet", {"width": "wide"}, "TypeError in "),
    "no classes": ("{nets}:MyNet", {"num_classes": 0}, "num_classes: expected a whole number of at least 1, got 0"),
    "two colons": ("{nets}:MyNet:x", {}, "has no class or function 'MyNet:x'; did you mean 'MyNet'"),
}


@pytest.mark.parametrize(("name", "options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_in_words(nets, name, options, message):
    with pytest.raises(OptionError) as caught:
        models.create(name.format(nets=nets), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_is_the_users(nets):
    with pytest.raises(OptionError) as caught:
        models.create(f"{nets}:Broken")
    line = NETS.splitlines().index("            return self.linear(self.conv(images).relu().mean((2, 3)))") + 1
    assert f"{nets}.py, line {line}: mat1 and mat2 shapes cannot be multiplied" in str(caught.value)


@pytest.mark.slow
def test_timm():
    import_or_skip()
    model = models.create("timm:resnet18", num_classes=7, in_channels=1)
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 7)
    assert isinstance(model, nn.Module)
    vit = models.create("timm:vit_tiny_patch16_224", num_classes=5, image_size=64)
    assert vit(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    with pytest.raises(OptionError, match="timm has no network 'resnet19'; did you mean"):
        models.create("timm:resnet19")
    with pytest.raises(OptionError, match=r"timm has no network ''; timm.list_models\(\) names"):
        models.create("timm:")


def test_timm_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(OptionError, match=r"timm cannot be imported .*`python -m pip install timm`"):
        models.create("timm:resnet18")
