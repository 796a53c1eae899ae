"""Every method through the whole way: configured in one line, trained, stopped, resumed to the same bits, evaluated."""

from pathlib import Path

import pytest
import torch
from conftest import PressCtrlC, same, small_config, state_of

from pictorch import api, runs
from pictorch.cli.training import show_result
from pictorch.config import UserError
from pictorch.engine import checkpoint
from pictorch.engine.build import build
from pictorch.engine.interrupt import Interrupted
from pictorch.models import weights

METHODS = {
    "adam": "optim=adam optim.clip_norm=1",
    "adamw": "optim=adamw optim.decay_norm_and_bias=false",
    "adabound": "optim=adabound",
    "adaboundw": "optim=adaboundw",
    "lars": "optim=lars",
    "lamb": "optim=lamb",
    "lion": "optim=lion",
    "muon": "optim=muon",
    "sam": "optim=sam optim.lr=0.1",
    "accumulation and ghost batches": "optim.accumulate=2 train.ghost_batches=4",
    "ema": "ema.decay=0.9",
    "swa": "swa.start_epochs=1",
    "all mixes": "augment={mixup: {}, cutmix: {}, ricap: {}, resizemix: {}, label_smoothing: 0.1}",
    "erasing": "augment={cutout: {size: 3}, random_erasing: {}, rotate: {}, flip: alternating}",
    "draws of unseeded workers": "augment={crop: {padding: 2, size: 10}, cutout: {size: 3}, repeat_draws: 3}",
    "cutmix of document 2": "augment.cutmix={program: seed2, prob: 1.0}",
    "a test as in training": "evaluation={crop: {padding: 1}, flip: true, test_mode: train, batch_size: 99}",
    "dual cutout": "augment.dual_cutout.size=3",
    "resized crop and jitter": "augment={crop: null, resized_crop: {}, jitter: {brightness: 0.4, contrast: 0.4}}",
    "autoaugment": "augment.policy=autoaugment loss=bce",
    "randaugment": "augment.policy=randaugment loss=focal",
    "trivialaugment": "augment.policy=trivialaugment",
    "augmix": "augment.policy={name: augmix, consistency: true}",
    "mean image": "data.normalise=pixel",
    "fine-tuning": "optim.freeze=backbone optim.lr_head_factor=3",
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_resumed_to_the_same_bits(name: str) -> None:
    line = METHODS[name]
    parts = [line] if "{" in line else line.split()
    config = small_config("train.epochs=2", *parts)
    whole = api.train(config, out="whole")
    with pytest.raises(Interrupted):
        api.train(config, out="run", progress=PressCtrlC(15))
    resumed = api.resume("run")
    assert same(state_of(Path("run")), state_of(Path("whole")))
    first, second = (weights.load(runs.open(run).weights)[0].state_dict() for run in ("whole", "run"))
    assert same(first, second)
    assert resumed.test_error == whole.test_error
    assert api.evaluate("run").error == whole.test_error


def test_the_average_is_what_is_evaluated_and_kept() -> None:
    result = api.train(small_config("ema.decay=0.9", "ema.warmup=false"), out="run")
    saved = checkpoint.load(runs.open("run").last_checkpoint)
    kept = weights.load(runs.open("run").weights)[0].state_dict()
    assert same({key: kept[key] for key in saved["average"]}, saved["average"])
    assert not torch.equal(kept["classifier.weight"], saved["model"]["classifier.weight"])
    assert result.row["averaged"] == "ema"
    assert result.row["raw_test_error"] != result.test_error
    rows = runs.read_metrics(runs.open("run"))
    assert rows[-1]["test_error"] == result.test_error


def test_swa_keeps_the_mean_of_the_epochs_ends_with_statistics_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    config = small_config("swa={start_epochs: 1, lr_factor: 0.5}", "optim.momentum=0", "optim.nesterov=false")
    from pictorch.engine import loop

    original = loop.finish_epoch

    def noting(job, run, state, evaluation):  # type: ignore[no-untyped-def]
        ends.append(job.model.state_dict()["classifier.weight"].clone())
        row = original(job, run, state, evaluation)
        ends.append(row["lr"])
        return row

    monkeypatch.setattr(loop, "finish_epoch", noting)
    api.train(config, out="run")
    kept = weights.load(runs.open("run").weights)[0].state_dict()
    torch.testing.assert_close(kept["classifier.weight"], (ends[2] + ends[4]) / 2)
    assert ends[3] == ends[5] == 0.5 * config.optim.lr
    assert ends[1] != ends[3]
    last = checkpoint.load(runs.open("run").last_checkpoint)["model"]
    means = [key for key in kept if key.endswith("running_mean")]
    assert all(not torch.equal(kept[key], last[key]) for key in means)


def test_swa_that_ends_before_it_begins_is_no_average() -> None:
    result = api.train(small_config("swa.start_epochs=2", "train.max_steps=11"), out="run")
    assert result.row["averaged"] is result.row["raw_test_error"] is None
    kept = weights.load(runs.open("run").weights)[0].state_dict()
    assert same(kept, checkpoint.load(runs.open("run").last_checkpoint)["model"])


def test_the_result_says_whose_weights_were_tested(capsys: pytest.CaptureFixture[str]) -> None:
    result = api.train(small_config("ema.decay=0.9"), out="run")
    show_result(result)
    said = capsys.readouterr().out
    assert "% (the average by EMA, 355 images)" in said
    assert f"without average │ {result.row['raw_test_error']:.2f}%" in said


def test_a_run_without_progress_in_validation_stops_and_says_so() -> None:
    overrides = ("data.val_fraction=0.2", "train.patience_epochs=2", "train.epochs=30", "optim.lr=1e-9")
    config = small_config(*overrides, "optim.momentum=0", "optim.nesterov=false")
    result = api.train(config, out="run")
    assert result.row["stopped_early"]
    assert result.row["complete"]
    assert result.row["epochs"] == result.row["best_epoch"] + 2 < 30
    again = api.train(config.model_copy(), out="other")
    assert again.row["epochs"] == result.row["epochs"]


def test_a_run_starts_from_another_run(small_run: api.Result) -> None:
    job = build(small_config(f"model.init_from={small_run.run_dir}"))
    start = weights.load(runs.open(small_run.run_dir).weights)[0].state_dict()
    assert same(job.model.state_dict(), start)
    count = sum("num_batches" not in key for key in start)
    assert job.notes == (f"{count} of {count} tensors are those of {small_run.run_dir}",)
    with pytest.raises(UserError, match=r"^model.init_from: nowhere: there is no such file of weights"):
        build(small_config("model.init_from=nowhere"))


def test_only_what_is_not_frozen_moves() -> None:
    job = build(small_config("optim.freeze=[stem*, stages.0*]"))
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    api.train(small_config("optim.freeze=[stem*, stages.0*]", "train.epochs=1"), out="run")
    after = weights.load(runs.open("run").weights)[0].state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name in before if name.startswith(("stem", "stages.0"))}
    with pytest.raises(UserError, match=r"^optim\.freeze: no module has a name like 'steem'"):
        build(small_config("optim.freeze=steem"))
    with pytest.raises(UserError, match=r"optim\.freeze: every parameter is frozen"):
        build(small_config("optim.freeze='*'"))
