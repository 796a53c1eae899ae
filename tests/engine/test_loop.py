"""Training on the real digits: what a run leaves, how it selects, and how it ends when it cannot go on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL, small_config
from PIL import Image
from safetensors import safe_open
from torch._dynamo.exc import Unsupported

from pictorch import api, data, runs
from pictorch.config import Config, UserError
from pictorch.engine import checkpoint
from pictorch.engine.build import build
from pictorch.engine.evaluate import data_root
from pictorch.engine.interrupt import Stop
from pictorch.engine.loop import Diverged, compiler_explained
from pictorch.engine.memory import enough_memory
from pictorch.engine.precision import choose
from pictorch.engine.state import restore


def test_a_run_leaves_everything(small_run: api.Result) -> None:
    run = runs.open(small_run.run_dir)
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "last.ckpt",
        "model.safetensors",
        "predictions.npz",
        "mistakes.json",
        "curves.png",
        "result.json",
    }
    row = small_run.row
    assert row == runs.read_result(run)
    assert list(row) == list(runs.RESULT)
    assert row["complete"] is True
    assert (row["recipe"], row["dataset"], row["epochs"], row["steps"]) == ("small", "digits", 3, 33)
    assert row["test_top1"] + row["test_error"] == pytest.approx(100)
    assert 50 < row["test_top1"] <= row["test_top5"] <= 100
    assert run.curves.read_bytes().startswith(b"\x89PNG")
    env = runs.read_json(run.env)
    assert env["torch"] == torch.__version__
    assert env["data_official"] is True
    assert env["data_root"] == str(data.root().absolute())
    assert env["resumed"] == []


def test_metrics_have_a_row_an_epoch(small_run: api.Result) -> None:
    rows = runs.read_metrics(runs.open(small_run.run_dir))
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 11), (2, 22), (3, 33)]
    keys = [
        "epoch",
        "step",
        "lr",
        "train_loss",
        "train_error",
        "test_loss",
        "test_error",
        "seconds",
        "images_per_second",
    ]
    assert all(list(row) == keys for row in rows)
    assert rows[-1]["test_error"] == small_run.test_error
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_predictions_agree_with_the_result(small_run: api.Result) -> None:
    run = runs.open(small_run.run_dir)
    with np.load(run.predictions) as file:
        label, classes, probabilities = file["label"], file["classes"], file["probabilities"]
    assert label.shape == (355,)
    assert classes.shape == probabilities.shape == (355, 5)
    assert 100 * float((classes[:, 0] != label).mean()) == pytest.approx(small_run.test_error)
    assert 100 * float((classes == label[:, None]).any(axis=1).mean()) == pytest.approx(small_run.test_top5)
    assert (np.diff(probabilities, axis=1) <= 0).all()
    mistakes = json.loads(run.mistakes.read_text())["mistakes"]
    assert len(mistakes) == min(64, int((classes[:, 0] != label).sum()))
    assert [m["probability"] for m in mistakes] == sorted((m["probability"] for m in mistakes), reverse=True)


def test_saved_weights_evaluate_to_the_result(small_run: api.Result) -> None:
    evaluation = api.evaluate(small_run.run_dir)
    assert evaluation.error == small_run.test_error
    assert evaluation.top(5) == small_run.test_top5
    assert evaluation.loss == pytest.approx(small_run.row["test_loss"], rel=1e-6)
    assert int(evaluation.confusion.sum()) == sum(row["images"] for row in evaluation.per_class()) == 355


def test_the_device_of_an_evaluation_is_named(small_run: api.Result) -> None:
    with pytest.raises(UserError, match=r"^device: expected auto, cpu, cuda or cuda:N, got 'gpu'$"):
        api.evaluate(small_run.run_dir, device="gpu")


def test_weights_of_another_data_set_are_not_evaluated(small_run: api.Result) -> None:
    run = runs.open(shutil.copytree(small_run.run_dir, "copy"))
    for path in ("pets/train/cat/a.png", "pets/train/dog/a.png", "pets/test/cat/a.png"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
    run.config.write_text(run.config.read_text().replace("name: digits", "name: pets"))
    with pytest.raises(
        UserError, match=r"config\.yaml: data.name is pets, but the weights of model.safetensors were .* on digits"
    ):
        api.evaluate(run.path)


def test_an_evaluation_finds_the_data_where_the_run_had_them(small_run: api.Result, tmp_path: Path) -> None:
    """Files of the right names will do: nothing is read to find them."""
    run = runs.open(shutil.copytree(small_run.run_dir, "copy"))
    given, recorded = tmp_path / "given", tmp_path / "recorded"
    runs.write_json(run.env, runs.read_json(run.env) | {"data_root": str(recorded)})
    assert data_root(run, "mnist", str(given)) == given
    for root, expected in ((recorded, recorded), (given, given)):
        for file in data.find("mnist").files:
            (root / file.forms[0].path).parent.mkdir(parents=True, exist_ok=True)
            (root / file.forms[0].path).touch()
        assert data_root(run, "mnist", str(given)) == expected


def test_the_weights_file_explains_itself(small_run: api.Result) -> None:
    with safe_open(runs.open(small_run.run_dir).weights, framework="pt") as file:
        metadata = json.loads(file.metadata()["pictorch"])
    assert metadata["classes"] == [str(digit) for digit in range(10)]
    assert metadata["options"] == {"depth": 8, "base_channels": 8}
    assert metadata["config"]["train"]["epochs"] == 3
    assert metadata["test_error"] == small_run.test_error


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(small_run: api.Result) -> None:
    def weights(path: Path) -> dict[str, torch.Tensor]:
        return dict(checkpoint.load(runs.open(path).last_checkpoint)["model"])

    first = weights(small_run.run_dir)
    again = weights(api.train(small_config(), out=Path("again")).run_dir)
    other = weights(api.train(small_config("train.seed=2"), out=Path("other")).run_dir)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_its_own_configuration_repeats_the_run(small_run: api.Result) -> None:
    config = api.load_config(runs.open(small_run.run_dir).config)
    again = api.train(config, out=Path("again"))
    assert again.test_error == small_run.test_error
    assert again.row["config_hash"] == small_run.row["config_hash"]


def test_a_validation_part_chooses_and_the_test_set_is_seen_once() -> None:
    config = small_config("data.val_fraction=0.2", "train.select=best-val", "train.epochs=4")
    result = api.train(config, out=Path("run"))
    run = runs.open(result.run_dir)
    rows = runs.read_metrics(run)
    assert all("val_error" in row and "test_error" not in row for row in rows)
    best = min(rows, key=lambda row: row["val_error"])
    assert result.row["best_epoch"] == best["epoch"]
    assert result.row["val_top1"] == result.row["best_val_top1"] == pytest.approx(100 - best["val_error"])
    kept = checkpoint.load(run.best_checkpoint)
    assert kept["step"] == best["step"]
    with safe_open(run.weights, framework="pt") as file:
        assert torch.equal(file.get_tensor("classifier.weight"), kept["model"]["classifier.weight"])
    assert api.evaluate(run.path).error == result.test_error


def test_the_best_epoch_may_be_chosen_by_the_mean_over_batches() -> None:
    overrides = ("data.val_fraction=0.2", "train.select=best-val", "evaluation.batch_size=99", "train.epochs=2")
    result = api.train(small_config(*overrides, "train.select_mean=batches"), out="run")
    rows = runs.read_metrics(runs.open("run"))
    by_images = 100 - rows[result.row["best_epoch"] - 1]["val_error"]
    assert result.row["best_val_top1"] != by_images
    assert result.row["best_val_top1"] == pytest.approx(by_images, abs=5)


def test_the_validation_figure_is_that_of_the_weights_that_are_tested() -> None:
    result = api.train(small_config("data.val_fraction=0.2"), out=Path("run"))
    rows = runs.read_metrics(runs.open(result.run_dir))
    assert result.row["val_top1"] == pytest.approx(100 - rows[-1]["val_error"])
    assert result.row["best_val_top1"] == pytest.approx(100 - min(row["val_error"] for row in rows))


def test_the_weights_file_is_the_same_to_the_byte(small_run: api.Result) -> None:
    again = api.train(small_config(), recipe="small", out=Path("again"))
    assert runs.open(again.run_dir).weights.read_bytes() == runs.open(small_run.run_dir).weights.read_bytes()


def test_the_process_is_left_as_it_was() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    api.train(small_config("train.deterministic=true", "train.threads=2"), out=Path("run"))
    after = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    assert after == before
    assert runs.read_json(Path("run/env.json"))["threads"] == 2


def test_the_validation_part_does_not_depend_on_the_seed() -> None:
    parts = [build(small_config("data.val_fraction=0.2", f"train.seed={seed}")) for seed in (1, 2)]
    first, second = (job.val_loader.source for job in parts if job.val_loader)
    assert torch.equal(first, second)
    assert len(first) == round(0.2 * 1442)
    assert len(parts[0].train_loader.labels) == 1442 - len(first)


def test_max_steps_stops_and_marks_the_run_incomplete() -> None:
    result = api.train(small_config("train.max_steps=15", "train.save_every_epochs=9"), out=Path("run"))
    assert (result.row["steps"], result.row["complete"]) == (15, False)
    assert [row["step"] for row in runs.read_metrics(runs.open(result.run_dir))] == [11, 15]
    assert checkpoint.load(runs.open(result.run_dir).last_checkpoint)["step"] == 15


def test_an_evaluation_of_fewer_images_marks_the_run_incomplete() -> None:
    result = api.train(small_config("train.epochs=1", "evaluation.max_images=50", "data.val_fraction=0.2"), out="run")
    assert (result.row["test_images"], result.row["complete"]) == (50, False)
    labels = np.load(runs.open(result.run_dir).predictions)["label"]
    assert np.bincount(labels).tolist() == [5] * 10


def test_evaluation_and_checkpoints_can_be_rarer() -> None:
    config = small_config("train.epochs=5", "train.eval_every_epochs=2", "train.save_every_epochs=3")
    result = api.train(config, out=Path("run"))
    rows = runs.read_metrics(runs.open(result.run_dir))
    assert ["test_error" in row for row in rows] == [False, True, False, True, True]
    assert checkpoint.load(runs.open(result.run_dir).last_checkpoint)["epoch"] == 5


def test_divergence_stops_with_the_step_and_keeps_the_last_good_checkpoint() -> None:
    config = small_config("optim.lr=0.05", "train.epochs=6", "schedule.name=constant", "schedule.warmup_epochs=0")
    job = build(config)
    steps = len(job.train_loader)
    run = runs.create(Path("run"), {}, {})
    # The rate explodes in the third epoch: two good ones are kept.
    job.schedule = lambda step: 1e30 if step >= 2 * steps + 3 else 1.0
    with pytest.raises(Diverged, match=rf"not finite at step {2 * steps + 5} \(epoch 3\).*keeps the last good state"):
        api.complete(job, run, restore(job, run), None, Stop())
    kept = checkpoint.load(run.last_checkpoint)
    assert kept["epoch"] == 2
    assert all(tensor.isfinite().all() for tensor in kept["model"].values())
    assert [row["epoch"] for row in runs.read_metrics(run)] == [1, 2]


def test_a_run_is_never_started_over_another(small_run: api.Result) -> None:
    before = {path: path.read_bytes() for path in small_run.run_dir.iterdir()}
    with pytest.raises(UserError, match="holds another run, which stays as it is"):
        api.train(small_config("train.seed=9"), out=small_run.run_dir)
    assert {path: path.read_bytes() for path in small_run.run_dir.iterdir()} == before


def test_the_place_is_checked_before_the_data_are_read() -> None:
    Path("letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"letter\.txt: this is a file, not a directory; give another --out"):
        api.train(small_config("data.name=kmnist", "data.dir=nowhere"), out="letter.txt")


def test_a_network_too_large_for_the_memory_is_told_and_leaves_nothing() -> None:
    with pytest.raises(UserError, match=r"not enough memory for another \d+ bytes; lower train.batch_size \(now 128\)"):
        api.train(small_config("model.base_channels=100000"), out=Path("run"))
    assert not Path("run").exists()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("Tried to allocate 2.00 GiB. GPU 0 has")])
def test_memory_that_runs_out_in_a_step_is_told(error: Exception) -> None:
    with (
        pytest.raises(UserError, match=r"^there is not enough memory.*; lower train.batch_size"),
        enough_memory(Config()),
    ):
        raise error
    with pytest.raises(RuntimeError, match="other"), enough_memory(Config()):
        raise RuntimeError("other")


def train_in_a_process(*overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pictorch", "train", *SMALL, "train.max_steps=1", *overrides, "--out", "run"]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | env)


@pytest.mark.slow
def test_a_missing_compiler_is_told() -> None:
    cache = str(Path("fresh").absolute())
    done = train_in_a_process("train.compile=true", TORCHINDUCTOR_CACHE_DIR=cache, CXX="/nonexistent")
    assert done.returncode == 2
    assert done.stderr.startswith("error: train.compile: torch cannot compile the network here (")
    assert "'/nonexistent'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [OSError(20, "Not a directory", "cache"), Unsupported("no cache")])
def test_what_the_compiler_raises_is_told_and_nothing_else(error: Exception) -> None:
    with pytest.raises(UserError, match=r"train\.compile: torch cannot compile .*cache.*"), compiler_explained():
        raise error
    with pytest.raises(RuntimeError, match="other"), compiler_explained():
        raise RuntimeError("other")


def test_a_picture_that_cannot_be_drawn_costs_no_result() -> None:
    done = train_in_a_process(MPLBACKEND="foo")
    assert "note: run/curves.png was not drawn: Key backend: 'foo' is not a valid value" in done.stdout
    assert runs.read_result(runs.open("run"))["steps"] == 1
    assert not Path("run/curves.png").exists()


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written() -> None:
    with pytest.raises(UserError, match=r"1[,]?442"):
        api.train(small_config("train.batch_size=2000"), out=Path("run"))
    assert not Path("run").exists()


def test_the_network_is_checked_before_the_data_are_read() -> None:
    with pytest.raises(UserError, match=r"command line: model.depth: .*nearest: 20, 26"):
        api.load_config("cifar10/resnet_preact_20", ["model.depth=21"])
    with pytest.raises(UserError, match=r"command line: model.name: .*did you mean"):
        api.load_config(None, ["model.name=resnet_preactt"])
    with pytest.raises(UserError, match=r"command line: data.name: .*did you mean 'cifar10'"):
        api.load_config(None, ["data.name=cifar-10"])
    with pytest.raises(UserError, match=r"command line: train.device: expected auto, cpu, cuda or cuda:N, got 'tpu'"):
        api.load_config(None, ["train.device=tpu"])


def test_check_takes_no_memory_for_a_huge_network() -> None:
    api.load_config("cifar10/resnet_preact_110", ["model.depth=1202", "model.base_channels=512"])


def test_bf16_trains_as_well() -> None:
    result = api.train(small_config("train.precision=bf16"), out=Path("run"))
    assert result.row["precision"] == "bf16"
    assert result.test_top1 > 50


def test_auto_precision_is_said() -> None:
    device = torch.device("cpu")
    chosen = choose("auto", device)
    assert chosen.name in ("fp32", "bf16")
    assert "CPU has" in chosen.reason
    assert choose("fp32", device).name == "fp32"
    with choose("fp32", device).autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
    with choose("bf16", device).autocast():
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16


def test_tensorboard_gets_every_epoch() -> None:
    result = api.train(small_config("track.tensorboard=true"), out=Path("run"))
    [events] = runs.open(result.run_dir).tensorboard.iterdir()
    content = events.read_bytes()
    assert content.count(b"train/train_loss") == 3
    assert content.count(b"test/test_error") == 3


def test_config_yaml_is_complete(small_run: api.Result) -> None:
    from pictorch.config import to_dict

    tree = yaml.safe_load(runs.open(small_run.run_dir).config.read_text())
    assert tree == to_dict(small_config())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's own compiler
def test_compile_trains_to_the_same_error_within_rounding(small_run: api.Result) -> None:
    result = api.train(small_config("train.compile=true"), out=Path("run"))
    rows = [runs.read_metrics(runs.open(path))[0] for path in (small_run.run_dir, result.run_dir)]
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-2)


def test_deterministic_mode_is_bitwise_the_same() -> None:
    one, two = (api.train(small_config("train.deterministic=true"), out=Path(name)).run_dir for name in ("one", "two"))
    first, second = (checkpoint.load(runs.open(path).last_checkpoint)["model"] for path in (one, two))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion"])
def test_a_run_does_without_the_import_of_the_compiler(optimizer: str) -> None:
    """It takes longer than all else before the first step but torch itself."""
    code = (
        "import sys; from pictorch import api; "
        f"api.train(api.load_config(None, ['train.epochs=1', 'data.fraction=0.2', 'optim={optimizer}'])); "
        "print(*{'torch._dynamo', 'torch._inductor', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
