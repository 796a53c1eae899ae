"""What a run computes in: 16 bits throughout, which a network keeps in training, evaluation and resuming."""

from pathlib import Path

import pytest
import torch
from conftest import SMALL, PressCtrlC, same, small_config, state_of

from pictorch import api, models, optim
from pictorch.config import config_hash
from pictorch.engine import checkpoint
from pictorch.engine.interrupt import Interrupted
from pictorch.engine.precision import choose
from pictorch.runs import RunDir

HALF = [option for option in SMALL if not option.startswith("train.precision")] + ["train.precision=half"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet_preact_20", {}), ("googlenet", {"aux_logits": True, "drop_rate": 0.0, "batch_norm": True})],
)
def test_half_is_cast_on_the_way_in_and_back_on_the_way_out(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = models.create(name, **options)
    images = torch.randn(4, 3, 32, 32)
    whole = model(images)
    choose("half", torch.device("cpu")).cast(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    heads, before = (out if isinstance(out, tuple) else (out,) for out in (model(images), whole))
    for head, exact in zip(heads, before, strict=True):
        assert head.dtype == torch.float32
        assert not torch.equal(head, exact)
        torch.testing.assert_close(head, exact, rtol=0.2, atol=0.2)


@pytest.mark.parametrize("name", ["fp32", "bf16", "auto"])
def test_other_precisions_leave_the_weights_in_32_bits(name: str) -> None:
    model = models.create("resnet_preact_20")
    choose(name, torch.device("cpu")).cast(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_run_in_half_learns_is_evaluated_as_it_was_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    config = api.load_config(None, HALF)
    result = api.train(config, out=tmp_path / "whole")
    assert isinstance(result, api.Result)
    assert result.row["precision"] == "half"
    assert result.test_error < 50
    saved = checkpoint.load(RunDir(result.run_dir).last_checkpoint)
    assert {value.dtype for value in saved["model"].values()} == {torch.bfloat16, torch.int64}
    assert api.evaluate(result.run_dir).error == result.test_error

    with pytest.raises(Interrupted):
        api.train(config, out=tmp_path / "cut", progress=PressCtrlC(5))
    api.resume(tmp_path / "cut")
    assert same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))


def test_half_is_the_same_experiment() -> None:
    assert config_hash(api.load_config(None, HALF)) == config_hash(small_config())


def test_an_update_of_16_bit_weights_is_that_of_32() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(50, 20), torch.randn(50, 20)
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        layer = torch.nn.Linear(20, 50, bias=False)
        layer.weight.data = start.clone().to(dtype)
        optimizer = optim.create(layer, "sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        for _ in range(5):
            layer.weight.grad = gradient.to(dtype)
            optimizer.step()
        moved[dtype] = layer.weight.detach().float() - start
    torch.testing.assert_close(moved[torch.bfloat16], moved[torch.float32], rtol=0.05, atol=0.05)
