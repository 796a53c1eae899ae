"""`pictorch bench`: its rows are named, complete, from both sides, said with their goals, and written when asked."""

import json
from pathlib import Path

import pytest
import torch

from pictorch.bench import training
from pictorch.cli.bench import bench, lines
from pictorch.config import UserError


@pytest.mark.slow
def test_the_loader_s_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Far fewer batches than the command's, so that no ratio is held against a bound."""
    bench("loader", device="cpu", quick=True, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["crop_flip", "crop_flip_cutout", "crop_flip_erasing", "crop_flip_mixup"]
    for row in rows:
        assert row.keys() >= {"name", "device", "dtype", "ours", "baseline", "unit", "ratio", "spread"}
        assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"], rel=0.01)
        assert row["ratio"] > 1


QUICK = {"networks": "resnet_preact_20", "batch_size": 8, "device": "cpu", "threads": 1}


def test_rows_are_said_and_written_and_not_measured_again(capsys: pytest.CaptureFixture[str]) -> None:
    bench("step", quick=True, write="rows", **QUICK)  # type: ignore[arg-type]
    head, ratio, rates, share = capsys.readouterr().out.splitlines()
    assert "times fp32" in head
    assert "200 images (random images)" in head
    assert ratio.startswith("step resnet_preact_20: ")
    assert "times textbook (spread 0%)" in ratio
    assert "images/s against" in rates
    assert "an epoch's wall seconds" in rates
    assert "matrix product's FLOP/s in training" in share
    (file,) = Path("rows").iterdir()
    assert file.name.startswith("speed-step-")
    before = file.read_text()
    bench("step", quick=True, write="rows", as_json=True, **QUICK)  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert f"note: resnet_preact_20 against textbook: measured already, in {file}" in said.err
    assert said.out == "[]\n"
    assert file.read_text() == before


def test_goals_stand_beside_the_ratios() -> None:
    seconds = ("ours", "baseline", "ours_wall_s", "baseline_wall_s", "ours_cpu_s", "baseline_cpu_s")
    row = dict.fromkeys(seconds, 1.0) | {
        "name": "wrn_28_10",
        "against": "textbook",
        "device": "cuda",
        "dtype": "bf16",
        "unit": "images/s",
        "ratio": 4.25,
        "spread": 0.02,
        "must": 4.0,
        "stretch": None,
        "train_ratio": 4.0,
        "evaluation_ratio": 6.0,
        "of_peak": 0.44,
        "baseline_workers": 8,
        "scaling_ours": 0.99,
        "scaling_baseline": 1.02,
    }
    plan = training.Plan("epoch", [], [], 128, 1, torch.device("cpu"))
    first, _, third = lines(row, plan)
    assert first == "epoch wrn_28_10: 4.25 times textbook (spread 2%), must 4 met"
    assert "44.0% of the bf16 matrix product's FLOP/s in training, must 0.45 not met" in third
    assert "the slice says 0.990 of ours and 1.020 of the other's" in third
    cpu = {**row, "name": "resnet_preact_20", "device": "cpu", "ratio": 2.6, "must": 2.5, "stretch": 3.7}
    first, _, third = lines({**cpu, "evaluation_ratio": 3.6}, plan)
    assert first.endswith("must 2.5 met, stretch 3.7 not met")
    assert "evaluation 3.60, must 3.5 met, stretch 6 not met" in third


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"what": "loder"}, "there is no benchmark 'loder'; did you mean 'loader'"),
        ({"what": "loader", "device": "gpu"}, "--device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"what": "step", "networks": "resnet_preact_20,resnet_21"}, "--networks: resnet_21: unknown model"),
        (
            {"what": "step", "networks": "resnet"},
            "--networks: the family resnet needs options; name a variant of it, for example resnet_20",
        ),
        ({"what": "step", "against": "tim-style"}, "--against: there is no 'tim-style'; did you mean 'timm-style'"),
        ({"what": "step", "whole": True}, "--whole measures whole epochs: it goes with `pictorch bench epoch`"),
    ],
)
def test_mistakes_are_said_before_anything_is_measured(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        bench(**options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(said)


@pytest.mark.slow
def test_replicas_are_trained_at_once_and_alone(capsys: pytest.CaptureFixture[str]) -> None:
    bench("replicas", quick=True, count=2, batch_size=8, device="cpu", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["against"], row["unit"]) == ("resnet_preact_20 x2", "one alone", "images/s")
    assert row["time_of_one"] == pytest.approx(2 / row["ratio"], rel=0.01)
