"""Weights that were trained before: what fits is taken over, what does not is named, and no file runs code."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pictorch import create_model
from pictorch.config import UserError
from pictorch.models.transfer import read_state, start_from


def network(num_classes: int = 10, seed: int = 0, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("resnet_preact", depth=8, num_classes=num_classes, **options)


def test_the_same_network_is_taken_over_whole() -> None:
    model, other = network(), network(seed=1)
    other.train()(torch.randn(4, 3, 32, 32))  # statistics and counters that are not those of a fresh network
    transferred = start_from(model, other.state_dict(), source="run")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert not transferred.drawn
    assert transferred.describe("run") == [
        f"{len(transferred.taken)} of {len(transferred.taken)} tensors are those of run"
    ]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    model, other = network(), network(seed=1)
    transferred = start_from(model, {prefix + key: value for key, value in other.state_dict().items()}, source="file")
    assert not transferred.drawn
    assert torch.equal(model.state_dict()["classifier.weight"], other.state_dict()["classifier.weight"])


def test_a_head_for_other_classes_stays_as_drawn_and_is_named() -> None:
    model, before, other = network(2), network(2).state_dict(), network(seed=1)
    transferred = start_from(model, other.state_dict(), source="run")
    assert transferred.drawn == (
        "classifier.weight ([2, 64], in the file [10, 64])",
        "classifier.bias ([2], in the file [10])",
    )
    assert transferred.describe("run")[1].startswith("as drawn: classifier.weight ([2, 64], in the file [10, 64])")
    after = model.state_dict()
    for key, value in after.items():
        assert torch.equal(value, before[key] if key.startswith("classifier") else other.state_dict()[key]), key


def test_what_is_left_over_is_named() -> None:
    state = {**network(seed=1).state_dict(), "projector.weight": torch.zeros(3)}
    transferred = start_from(network(), state, source="run")
    assert transferred.unused == ("projector.weight",)
    assert transferred.describe("run")[-1] == "not used of run: projector.weight"


def test_layers_of_other_names_are_taken_by_their_order() -> None:
    """A file in torchvision's style: other names, same order, another number of classes."""
    other = network(1000, seed=1).state_dict()
    renamed = {f"layer{i}": value for i, (key, value) in enumerate(other.items()) if "num_batches" not in key}
    model = network()
    transferred = start_from(model, renamed, source="file")
    assert [line.split()[0] for line in transferred.drawn] == ["classifier.weight", "classifier.bias"]
    assert all(torch.equal(model.state_dict()[key], other[key]) for key in transferred.taken)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(UserError, match=r"vit.pth: none of its .* tensors has the name and shape of one of this netw"):
        start_from(network(), {"patches": torch.zeros(3, 3)}, source="vit.pth")


def test_files_are_read_whatever_program_wrote_them(tmp_path: Path) -> None:
    state = network().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"epoch": 3, "state_dict": state, "best_acc": 0.5}, tmp_path / "c.pth")
    torch.save({"model": state, "optimizer": {}}, tmp_path / "d.pt")
    for name in ("a.safetensors", "b.pth", "c.pth", "d.pt"):
        found = read_state(tmp_path / name)
        assert all(torch.equal(found[key], state[key]) for key in state), name


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code was run",)


def test_a_file_that_is_no_weights_is_one_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}, 2))
    said = {
        "nothing.pth": "there is no such file of weights",
        "text.pth": "was not read|of an unknown kind",
        "cut.safetensors": "damaged or of an unknown kind",
        "empty.pth": "holds no network's weights",
        "evil.pth": "something else than tensors",
    }
    for name, words in said.items():
        with pytest.raises(UserError, match=words) as caught:
            read_state(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    assert "code was run" not in capsys.readouterr().out
