"""What `pictorch eval` says of a run, against the answers themselves."""

import copy
import dataclasses
import json
from typing import Any

import pytest
import torch

from pictorch import api, runs
from pictorch.config import UserError
from pictorch.data.corruptions import SEVERITIES, corrupt
from pictorch.engine import examine as module
from pictorch.engine.evaluate import Evaluation, Trained, open_trained
from pictorch.engine.examine import MOST_SUSPECTS, Corrupt, Examination, examine
from pictorch.metrics import calibration
from pictorch.metrics.labels import suspects


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of the digits that held images out for validation."""
    from conftest import small_config

    config = small_config("data.val_fraction=0.2")
    result = api.train(config, recipe="small", out=tmp_path_factory.mktemp("runs") / "val")
    return open_trained(runs.open(result.run_dir), data_dir=None, device="cpu")


@pytest.fixture(scope="module")
def examined(held_out: Trained) -> Examination:
    return examine(held_out, corruptions=["contrast", "gaussian_noise"])


def test_figures_are_those_of_the_answers(examined: Examination) -> None:
    evaluation, values = examined.evaluation, examined.values
    assert evaluation.logits is not None
    scores = calibration.scores(evaluation.logits, evaluation.labels)
    assert values["calibration"]["nll"] == pytest.approx(evaluation.loss, rel=1e-5)
    assert values["calibration"]["confidence"] == pytest.approx(100 * float(evaluation.probabilities[:, 0].mean()))
    assert values["top1"] == pytest.approx(100 * float(scores.right.mean())) == 100 - values["error"]
    for low, high, value in [
        (*values["intervals"]["top1"], values["top1"]),
        (*values["intervals"]["loss"], values["loss"]),
        (*values["calibration"]["intervals"]["brier"], values["calibration"]["brier"]),
    ]:
        assert low < value < high
    assert sum(row["images"] for row in values["calibration"]["bins"]["ece"]) == 355
    assert json.loads(json.dumps(values)) == values


def test_the_temperature_is_fitted_on_what_was_held_out(held_out: Trained, examined: Examination) -> None:
    found = examined.values["temperature"]
    assert found["fitted_on"] == round(0.2 * 1442)
    logits, labels = examined.evaluation.logits, examined.evaluation.labels
    assert logits is not None
    assert found["nll"] == pytest.approx(float(calibration.scores(logits, labels, found["value"]).nll.mean()))
    assert found["value"] != pytest.approx(calibration.temperature(logits, labels), rel=1e-3)


def test_without_a_held_out_part_no_temperature_is_fitted(small_run: api.Result) -> None:
    trained = open_trained(runs.open(small_run.run_dir), data_dir=None, device="cpu")
    found = examine(trained).values["temperature"]
    assert found["value"] is None
    assert "data.val_fraction" in found["why_not"]


def test_right_answers_alone_fit_no_temperature(held_out: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Trained.answers

    def right(self: Trained, loader: Any, **options: Any) -> Evaluation:
        found = answers(self, loader, **options)
        return dataclasses.replace(found, labels=found.ranked[:, 0])

    monkeypatch.setattr(Trained, "answers", right)
    found = examine(held_out).values["temperature"]
    assert found["value"] is None
    assert found["why_not"].startswith("all 288 held-out images are answered rightly")


def test_corrupted_images_are_those_of_the_whole_set(held_out: Trained, examined: Examination) -> None:
    images = held_out.dataset.test.images
    whole = corrupt(images, "gaussian_noise", 3, seed=0, start=0)
    step = Corrupt("gaussian_noise", 3)
    [places] = step.draw(355, 8, torch.Generator())
    assert torch.equal(torch.cat([step(images[at], places[at]) for at in (slice(200), slice(200, 355))]), whole)
    seen = []
    loader = held_out.test_loader([step])
    mean, std = held_out.dataset.spec.mean[0], held_out.dataset.spec.std[0]
    for batch in loader.epoch(0):
        seen.append((batch.images * std + mean) * 255)
    torch.testing.assert_close(torch.cat(seen), whole.float(), atol=1e-3, rtol=0)
    found = examined.values["corruptions"]
    assert list(found["errors"]) == ["contrast", "gaussian_noise"]
    assert not found["whole"]
    assert found["frost"] is None
    for errors, mean_of in zip(found["errors"].values(), found["means"].values(), strict=True):
        assert len(errors) == len(SEVERITIES)
        assert mean_of == pytest.approx(sum(errors) / len(errors))
    assert found["errors"]["contrast"][-1] > found["clean_error"]


def test_strangers_are_told_apart(held_out: Trained) -> None:
    from pathlib import Path

    import numpy as np
    from PIL import Image

    folder = Path("noise")
    folder.mkdir()
    draws = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(draws.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{i}.png")
    [found] = examine(held_out, foreign=["noise"]).values["out_of_distribution"]
    assert (found["dataset"], found["images"]) == ("noise", 40)
    assert found["scores"]["energy"]["auroc"] > 60
    assert set(found["scores"]) == {"largest probability", "largest logit", "energy"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"corruptions": ["gausian_noise"]}, "no corruption is called 'gausian_noise'; did you mean 'gaussian_noise'"),
        ({"corruptions": ["frost"], "frost_dir": "nowhere"}, "nowhere"),
        ({"corruptions": ["fog"], "frost_dir": "nowhere"}, "frost_dir: this is for the corruption frost, which is not"),
        ({"foreign": [""]}, "there is no data set ''"),
        ({"foreign": ["digits"]}, "digits: the run was trained on this data set; expected another one"),
        ({"foreign": ["cifar11"]}, "there is no data set 'cifar11'"),
    ],
)
def test_names_that_there_are_not(held_out: Trained, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        examine(held_out, **options)


def test_the_same_images_under_another_name_are_no_strangers(
    held_out: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_foreign", lambda name, **_: (name, held_out.dataset.test))
    with pytest.raises(UserError, match="digits_coarse: its test images are those of digits; expected others"):
        examine(held_out, foreign=["digits_coarse"])


def test_answers_that_are_not_finite_are_not_evaluated(held_out: Trained) -> None:
    model = copy.deepcopy(held_out.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(UserError, match=r"model\.safetensors: this network answers in numbers that are not finite"):
        examine(dataclasses.replace(held_out, model=model))


def test_duplicates_are_counted(examined: Examination) -> None:
    found = examined.values["duplicates"]
    assert (found["equal"], found["near"], found["compared"], found["with"]) == (0, None, 355, 1442)
    assert found["why_not"] is None


def test_suspects_are_of_the_test_images(examined: Examination) -> None:
    found, evaluation = examined.values["label_suspects"], examined.evaluation
    assert evaluation.logits is not None
    expected = suspects(evaluation.logits.double().softmax(dim=1), evaluation.labels).tolist()
    assert expected, "the small run doubts some labels"
    assert found["count"] == len(expected)
    assert [image["index"] for image in found["images"]] == expected[:MOST_SUSPECTS]
    for image in found["images"]:
        assert image["label"] == evaluation.classes[int(evaluation.labels[image["index"]])]
        assert image["of_label"] <= image["of_answer"]
