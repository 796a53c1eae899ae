"""An evaluation's answers against the network's own, batch by batch, and evaluation over several views."""

import pytest
import torch
from conftest import small_config
from torch import nn

from pictorch import api
from pictorch.cli.training import show_result
from pictorch.config import UserError
from pictorch.config.schema import Evaluation as Settings
from pictorch.data.streams import generator
from pictorch.engine.build import Job, build
from pictorch.engine.evaluate import Evaluation, answer, evaluate
from pictorch.engine.precision import Precision
from pictorch.metrics import ranked
from pictorch.models import create
from pictorch.models.fold import fold


def evaluated(job: Job, model: nn.Module, precision: str = "fp32", **options: object) -> Evaluation:
    kind = Precision(precision, "cpu", "")
    return evaluate(model, job.test_loader, classes=job.classes, dataset="digits", precision=kind, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def job() -> Job:
    return build(small_config())


@pytest.mark.parametrize("name", ["resnet_preact_20", "vit_ti_4"])
def test_the_answers_are_those_of_the_network(job: Job, name: str) -> None:
    torch.manual_seed(0)
    model = create(name, in_channels=1, image_size=8).train()
    evaluation = evaluated(job, model)
    assert model.training
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(batch.images) for batch in job.test_loader.epoch(0)])
    classes, probabilities = ranked(logits, 5)
    labels = job.test_loader.labels
    assert torch.equal(evaluation.labels, labels)
    torch.testing.assert_close(evaluation.probabilities, probabilities, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        evaluation.losses, nn.functional.cross_entropy(logits, labels, reduction="none"), rtol=1e-4, atol=1e-5
    )
    # Two classes may change places only where they are as good as equal.
    differ = evaluation.ranked != classes
    assert (probabilities - evaluation.probabilities)[differ].abs().max() < 1e-5 if differ.any() else True
    assert evaluation.views == "one"


def test_bf16_changes_the_answers_by_its_rounding_only(job: Job) -> None:
    torch.manual_seed(0)
    model = create("resnet_preact_20", in_channels=1, image_size=8)
    exact, rounded = evaluated(job, model), evaluated(job, model, "bf16")
    assert not torch.equal(exact.losses, rounded.losses)
    torch.testing.assert_close(rounded.losses, exact.losses, rtol=0.05, atol=0.05)


def test_several_views_are_answered_by_the_mean_of_their_logits(job: Job) -> None:
    torch.manual_seed(0)
    model = create("resnet_preact_20", in_channels=1, image_size=8).eval()
    evaluation = evaluated(job, model, settings=Settings(views="mirror"))
    with torch.no_grad():
        logits = torch.cat(
            [(model(batch.images) + model(batch.images.flip(3))) / 2 for batch in job.test_loader.epoch(0)]
        )
    torch.testing.assert_close(evaluation.probabilities, ranked(logits, 5)[1], rtol=1e-4, atol=1e-5)
    assert evaluation.views == "mirror"


def test_the_answer_to_a_batch_depends_on_the_batch_alone(job: Job) -> None:
    model = create("resnet_preact_20", in_channels=1, image_size=8).eval()
    batch = next(iter(job.test_loader.epoch(0)))
    with torch.inference_mode():
        network = fold(model)
        first = answer(network, batch.images, batch.labels, "mirror_shift")
        torch.manual_seed(1)
        again = answer(network, batch.images, batch.labels, "mirror_shift")
    assert all(map(torch.equal, first, again))


def test_the_views_of_a_run_are_those_of_its_result_and_named_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = api.train(small_config("train.epochs=1", "evaluation.views=mirror_shift"), out="run")
    evaluation = api.evaluate("run")
    assert result.row["views"] == evaluation.views == "mirror_shift"
    assert (evaluation.error, evaluation.loss) == (result.test_error, pytest.approx(result.row["test_loss"], rel=1e-6))
    show_result(result)
    assert "355 images, views mirror_shift)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["resnet_preact_20", "vit_ti_4"])
def test_in_training_mode_an_answer_depends_on_the_images_beside_it(job: Job, name: str) -> None:
    torch.manual_seed(0)
    options = {"dropout": 0.1} if name == "vit_ti_4" else {}
    model = create(name, in_channels=1, image_size=8, **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first, again = (evaluated(job, model, settings=Settings(test_mode="train")) for _ in range(2))
    assert torch.equal(first.losses, again.losses)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not torch.allclose(first.losses, evaluated(job, model).losses)
    torch.manual_seed(generator("test").initial_seed())
    with torch.no_grad():
        model.train()
        logits = torch.cat([model(batch.images) for batch in job.test_loader.epoch(0)])
    losses = nn.functional.cross_entropy(logits, job.test_loader.labels, reduction="none")
    torch.testing.assert_close(first.losses, losses, rtol=1e-4, atol=1e-5)


def test_a_run_is_tested_in_training_mode_and_validated_as_ever() -> None:
    overrides = ("train.epochs=1", "data.val_fraction=0.2", "evaluation={test_mode: train, batch_size: 100}")
    result = api.train(small_config(*overrides), out="run")
    plain = api.train(small_config(*overrides[:2]), out="plain")
    assert result.row["val_top1"] == plain.row["val_top1"]
    assert result.row["test_loss"] != plain.row["test_loss"]
    assert (result.row["views"], plain.row["views"]) == ("one, in training mode", "one")
    assert api.evaluate("run", device="cpu").error == result.test_error
    otherwise = ["evaluation.test_mode=train", "evaluation.batch_size=100"]
    again = api.evaluate("plain", otherwise, device="cpu")
    assert (again.error, again.views) == (result.test_error, "one, in training mode")
    assert api.evaluate("plain", device="cpu").error == plain.test_error, "the run is as it was"
    with pytest.raises(UserError, match=r"optim\.lr=3: expected evaluation\.KEY=VALUE"):
        api.evaluate("plain", ["optim.lr=3"])
    with pytest.raises(UserError, match=r"evaluation\.mode: unknown key"):
        api.evaluate("plain", ["evaluation.mode=train"])


def test_the_mean_over_batches_counts_a_small_last_one_as_much() -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    ranked = torch.tensor([[0], [0], [0], [1], [0], [1], [0], [0], [1], [1]])
    evaluation = Evaluation(labels, ranked, torch.ones(10, 1), torch.zeros(10), ("a", "b"), "x")
    assert evaluation.top(1) == 60
    assert evaluation.top1_of_batches(4) == pytest.approx(100 * (3 / 4 + 3 / 4 + 0) / 3)
