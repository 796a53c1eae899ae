"""What only the components know to be wrong: told with the key, its place, and everything else that is wrong."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_config

from pictorch import data
from pictorch.api import load_config
from pictorch.config import ConfigError, OptionError, UserError, load
from pictorch.engine.build import build, mistakes
from pictorch.engine.loop import compiled
from pictorch.engine.step import train_step
from pictorch.losses import cross_entropy


def told(text: str, *overrides: str) -> list[str]:
    Path("mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("mine.yaml"), overrides, check=mistakes)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        ("train:\n  device: gpu\n", "", "mine.yaml:2: train.device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("train: {}\n", "train={device: gpu}", "command line: train.device: expected auto, cpu, cuda or cuda:N"),
        ("data:\n  name: digit\n", "", "mine.yaml:2: data.name: there is no data set 'digit'; did you mean 'digits'?"),
        ("model:\n  name: resnet_111\n", "", "mine.yaml:2: model.name: resnet_111: unknown model; did you mean"),
        (
            "model:\n  name: resnet_20\n  dept: 2\n",
            "",
            "mine.yaml:3: model.dept: unknown option; did you mean 'depth'?",
        ),
        (
            "model: {name: resnet_20}\n",
            "model={depth: x}",
            "command line: model.depth: expected a whole number or null",
        ),
        (
            "data: {val_fraction: 0}\n",
            "train.select=best-val",
            "command line: train.select: best-val needs a validation part: set data.val_fraction, for example 0.1",
        ),
        ("", "train.patience_epochs=2", "command line: train.patience_epochs: stopping early needs a validation part"),
        ("data:\n  image_size: 32\n", "", "mine.yaml:2: data.image_size: digits has its own; this is for images of"),
        (
            "augment:\n  crop: {padding: 8}\n",
            "",
            "mine.yaml:2: augment.crop.padding: expected less than the image size, 8",
        ),
        (
            "evaluation:\n  crop: {padding: 1, size: 11}\n",
            "",
            "mine.yaml:2: evaluation.crop.size: expected at most 10, the 8 pixels of the image and 1 on each",
        ),
    ],
)
def test_a_component_s_mistake_has_its_place(text: str, override: str, said: str) -> None:
    (line,) = told(text, *filter(None, [override]))
    assert line.startswith(said)


def test_a_network_that_lacks_an_option_is_explained_by_the_note_on_what_was_dropped() -> None:
    first, note = told("extends: digits/resnet_preact_8\n", "model.name=resnet")
    assert first.startswith("command line: model: resnet: depth:")
    assert note == (
        "note: command line: model.name is now 'resnet', "
        "so model.depth, model.base_channels of the recipe no longer apply"
    )


def test_every_mistake_is_told_at_once_whoever_knows_of_it() -> None:
    keys = ("train.device=gpu", "model.name=resnet_111", "augment.crop.padding=9")
    assert [line.split(": ")[1] for line in told("", *keys)] == ["model.name", "augment.crop.padding", "train.device"]
    with pytest.raises(ConfigError) as caught:
        load(None, [*keys, "optim.lr=-1", "data.val_fraction=2"], check=mistakes)
    # The crop is not checked against a data set that may be another one; the network's name is known to be wrong.
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines[:4]] == [
        "data.val_fraction",
        "optim.lr",
        "model.name",
        "train.device",
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.batch_size=2000"], "train.batch_size: batches of 2,000 images, but there are 1,4"),
        (["data.fraction=1e-9"], "data.fraction: a fraction of 1e-09 of"),
        (["data.val_fraction=1e-9"], "data.val_fraction: a validation part of 1e-09 of"),
    ],
)
def test_what_the_data_decide_is_told_with_its_key(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        build(small_config(*overrides))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("block", ["augment", "evaluation"])
def test_crops_that_the_network_does_not_take_are_told_before_the_first_step(block: str) -> None:
    crop = f"{block}.crop={{padding: 2, size: 12}}"
    build(small_config(crop))
    with pytest.raises(UserError) as caught:
        build(load_config(None, ["model={name: vit, dim: 16, depth: 1, heads: 2}", crop]))
    assert str(caught.value) == f"{block}.crop.size: vit takes images of 8 pixels, not crops of 12: leave it out"


def test_an_option_that_the_data_decide_is_refused() -> None:
    assert told("model: {name: resnet_20, num_classes: 3}\n")[0].startswith(
        "mine.yaml:1: model.num_classes: the data set 'digits' decides this; leave it out"
    )
    config = load(None, ["model.num_classes=3"]).config
    with pytest.raises(OptionError, match="num_classes"):
        build(config)


def test_a_network_that_whitens_is_given_training_images(tmp_path: Path) -> None:
    """The first layer's outputs over the images of training are uncorrelated and, but for eps, of variance 1."""
    (tmp_path / "cifar-10-batches-py").mkdir()
    waves = np.random.default_rng(0).normal(0, 8, (40, 3, 32, 32)).cumsum(2).cumsum(3)
    pixels = np.clip(128 + waves, 0, 255).astype(np.uint8).reshape(40, 3072)
    for file in data.find("cifar10").files:
        path = tmp_path / file.forms[0].path
        path.write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10)) * 4}, 2))
    job = build(load_config(None, ["data.name=cifar10", f"data.dir={tmp_path}", "model={name: airbench94}"]))
    images = torch.cat([batch.images for batch in job.test_loader.epoch(0)])
    whitening = job.model.get_submodule("whitening")
    outputs = whitening(images).detach() - whitening.bias.detach()[:, None, None]
    moments = torch.einsum("nchw,ndhw->cd", outputs, outputs)[:12, :12] / outputs[:, 0].numel()
    patches = torch.nn.functional.unfold(images, 2).transpose(0, 1).flatten(1).double()
    variances = torch.linalg.eigvalsh(patches @ patches.T / patches.shape[1]).flip(0)
    expected = torch.diag(variances / (variances + 5e-4)).float()
    torch.testing.assert_close(moments, expected, atol=0.02, rtol=0)
    assert expected[0, 0] > 0.999


def test_auxiliary_heads_are_trained_with_their_weights() -> None:
    options = ["model.aux_logits=true", "model.batch_norm=true", "train.precision=fp32"]
    job = build(load_config(None, ["model.name=googlenet", *options]))
    assert job.update.auxiliary_weights == (0.3, 0.3)
    batch = next(job.train_loader.epoch(0))
    outputs = compiled(job)(batch.images)
    assert len(outputs) == 3
    torch.manual_seed(0)
    expected = [cross_entropy(logits, batch.targets).item() for logits in compiled(job)(batch.images)]
    torch.manual_seed(0)
    loss, logits = train_step(compiled(job), job.optimizer, batch, lr=0.1, update=job.update)
    assert loss.item() == pytest.approx(expected[0] + 0.3 * expected[1] + 0.3 * expected[2], rel=1e-5)
    assert logits.shape == (job.config.train.batch_size, 10)
    assert job.model.get_submodule("auxiliary.4a.classifier").weight.grad is None  # the step has used and dropped it


@pytest.mark.parametrize(("missing", "said"), [(1, True), (0, False)])
def test_an_average_that_never_begins_is_said(missing: int, said: bool) -> None:
    steps = len(build(small_config("train.epochs=4")).train_loader)
    updates = steps - missing  # the average takes the weights in at the ends of epochs
    job = build(small_config("train.epochs=4", f"train.max_steps={updates}", "swa.start_epochs=0.5"))
    text = f"swa.start_epochs=0.5: the run of {updates} updates ends before an epoch ({steps} updates) after that does"
    assert any(note.startswith(text) for note in job.notes) == said


def test_the_sum_over_parts_may_be_clipped_before_it_is_divided() -> None:
    """Document 2's newest program: the mean of 4 parts is then clipped to a quarter."""
    overrides = ("optim.clip_norm=0.1", "optim.accumulate=4", "optim.nesterov=false", "optim.weight_decay=0")
    moved = []
    for clip_sum in ("false", "true"):
        job = build(small_config(*overrides, f"optim.clip_sum={clip_sum}"))
        before = [parameter.detach().clone() for parameter in job.model.parameters()]
        train_step(job.model, job.optimizer, next(job.train_loader.epoch(0)), lr=1.0, update=job.update)
        steps = [(now.detach() - was).norm() for now, was in zip(job.model.parameters(), before, strict=True)]
        moved.append(float(torch.stack(steps).norm()))
    assert moved == pytest.approx([0.1, 0.025], rel=1e-3)


def test_the_last_update_has_the_rate_that_the_schedule_s_quirks_give_it() -> None:
    cosine = ("schedule={name: cosine, warmup_epochs: 0}", "optim.lr=0.2")
    rates = []
    for quirk in ("train.seed=1", "schedule.position=after", "schedule.final_factor=0.001"):
        job = build(small_config(*cosine, quirk))
        rates.append(0.2 * job.schedule(job.updates - 1))
    assert 0 < rates[0] < 0.001
    assert rates[1] == 0
    assert rates[2] == pytest.approx(0.0002 + rates[0], rel=0.01)
