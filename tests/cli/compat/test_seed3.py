"""Seed document 3's commands: what they mean here, what they leave, what they say to a mistake."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pictorch import api, create_model, runs
from pictorch.cli.compat import command, seed3
from pictorch.config import Config, UserError
from pictorch.engine.build import create_schedule
from pictorch.experiments import published
from pictorch.runs import RunDir

TRAIN = ("train.py", "--model", "resnet50", "--dataset", "cifar10")
TEST = ("test.py", "--model", "resnet50", "--dataset", "cifar10")


def config_of(*words: str) -> Config:
    translated = seed3.translate(("train.py", *words))
    return api.load_config(translated.recipe, translated.overrides)


def refused(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        (seed3.evaluate if words[0] == "test.py" else seed3.translate)(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_documents_command() -> None:
    translated = seed3.translate(TRAIN)
    assert (translated.recipe, translated.overrides) == ("seed3/cifar10/resnet50", ())
    assert translated.outdir == Path("runs/cifar10/resnet50")
    assert seed3.translate(["train.py"]).overrides == ()  # the flags' defaults are the document's command


def test_it_is_the_programs_recipe() -> None:
    """seed3-program: flags, optimiser, split, selection, transforms and channel constants."""
    config = config_of()
    assert (config.model.name, config.model.options) == ("resnet50", {})
    optim = config.optim.model_dump()
    assert {key: optim[key] for key in ("name", "lr", "momentum", "nesterov", "weight_decay")} == {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
    }
    assert config.optim.decay_norm_and_bias
    assert (config.train.epochs, config.train.batch_size, config.train.select) == (200, 128, "best-val")
    assert (config.data.val_fraction, config.data.drop_last) == (0.1, False)
    assert config.augment.model_dump(exclude_defaults=True) == {
        "crop": {},
        "flip": True,
        "rotate": {},
    }
    as_published = config_of("--as_published")
    assert (as_published.data.mean, as_published.data.std) == ((0.4914, 0.4822, 0.4465), (0.2467, 0.2432, 0.2612))
    as_published = config_of("--as_published", "--dataset", "cifar100")
    assert (as_published.data.mean, as_published.data.std) == ((0.5070, 0.4865, 0.4409), (0.2669, 0.2560, 0.2756))


@pytest.mark.parametrize("epochs", [1, 5, 10, 69, 70, 100, 129, 130, 200, 249, 300])
def test_another_number_of_epochs_has_the_programs_rates(epochs: int) -> None:
    """Epoch e, from 1, has 0.1 e / 10 up to the tenth, then 0.1 * 0.1^((e - 10) // 60), whatever the number of epochs.

    In 12 digits, since that program's 0.1 * (7 / 10) is 0.06999999999999999.
    """
    config = config_of("--num_epochs", str(epochs))
    factor = create_schedule(config, 352)
    rates = [config.optim.lr * factor(epoch * 352 + step) for epoch in range(epochs) for step in (0, 351)]
    program = [0.1 * (e / 10 if e <= 10 else 0.1 ** ((e - 10) // 60)) for e in range(1, epochs + 1) for _ in range(2)]
    assert [f"{rate:.12g}" for rate in rates] == [f"{rate:.12g}" for rate in program]


def test_flags_and_what_they_set() -> None:
    config = config_of(
        *("--lr", "0.05", "--momentum=0.8", "--weight_decay", "1e-4", "--batch_size", "64", "--num_ep", "20"),
        *("--seed", "3"),
    )
    assert (config.optim.lr, config.optim.weight_decay, config.optim.model_dump()["momentum"]) == (0.05, 1e-4, 0.8)
    assert (config.train.batch_size, config.train.epochs, config.train.seed) == (64, 20, 3)
    assert seed3.translate(["train.py", "--lr", "0.1", "--num_epochs", "200"]).overrides == ()


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("model", seed3.NETWORKS)
def test_every_network_of_the_program_and_of_the_tables(model: str, dataset: str) -> None:
    config = config_of("--model", model, "--dataset", dataset)
    assert config.data.name == dataset
    assert config.model.name.replace("_", "").startswith(model.replace("_", ""))
    assert "as_published" not in config.model.options
    as_published = config_of("--model", model, "--dataset", dataset, "--as_published")
    assert as_published.as_published == "seed3"


def test_every_table_row_has_its_command() -> None:
    rows = {(row.recipe, row.overrides) for row in published.rows() if row.document == "seed3"}
    words = [
        ("train.py", "--model", m, "--dataset", d, "--as_published") for m in seed3.NETWORKS for d in seed3.FOLDERS
    ]
    assert len(rows) == 38
    assert rows <= {(command.recipe, command.overrides) for command in map(seed3.translate, words)}


def test_the_places_move() -> None:
    translated = seed3.translate((*TRAIN, "--log_dir", "elsewhere", "--ckpt_dir", "weights"))
    assert translated.outdir == Path("elsewhere/cifar10/resnet50")
    assert not Path("weights").exists()


def test_data_of_that_program_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PICTORCH_DATA", raising=False)
    assert seed3.translate(TRAIN).overrides == ()
    Path("data/cifar-10-batches-py").mkdir(parents=True)
    assert seed3.translate(TRAIN).overrides == ("data.dir=data",)
    assert seed3.translate((*TRAIN[:3], "--dataset", "cifar100")).overrides == ()
    monkeypatch.setenv("PICTORCH_DATA", "another")
    assert seed3.translate(TRAIN).overrides == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train.py --modle resnet50", "train.py: --modle: unknown flag; did you mean '--model'?"),
        ("train.py --epochs=3", "train.py: --epochs: unknown flag; did you mean '--num_epochs'?"),
        ("train.py --model resnet5", "train.py: --model: seed document 3 has no 'resnet5'; did you mean 'resnet50'"),
        ("train.py --model ResNet50", "train.py: --model: seed document 3 has no 'ResNet50'; did you mean 'resnet50'"),
        ("train.py --dataset imagenet", "--dataset: seed document 3 has no 'imagenet'; known: cifar10, cifar100"),
        ("train.py --lr fast", "train.py: --lr: expected a number, got 'fast'"),
        ("train.py --batch_size 1.5", "--batch_size: expected a whole number of at least 1, got '1.5'"),
        ("train.py --num_epochs 0", "--num_epochs: expected a whole number of at least 1, got '0'"),
        ("train.py --lr", "train.py: --lr: expected one argument"),
        ("train.py --m resnet50", "train.py: ambiguous option: --m could match --model, --momentum"),
        ("train.py --model resnet50 optim.lr=1", "train.py: optim.lr=1: expected a flag and its value"),
        ("train.py --ckpt_dir=", "--ckpt_dir: expected a path, got an empty text"),
        ("test.py --model resnet50", "test.py: the following arguments are required: --dataset"),
        ("test.py --model resnet50 --dataset cifar10 --lr 1", "test.py: --lr: unknown flag; did you mean '--log_dir'"),
    ],
)
def test_mistakes(words: str, message: str) -> None:
    assert message in refused(*words.split(" "))


def test_a_place_for_weights_that_is_none_is_told_before_training() -> None:
    Path("taken").touch()
    said = refused(*TRAIN, "--ckpt_dir", "taken")
    assert said == "--ckpt_dir: expected a place for taken/cifar10, but taken is no directory to write to"


def test_missing_weights_say_which_command_makes_them() -> None:
    said = refused(*TEST, "--ckpt_dir", "my weights")
    assert said.startswith("my weights/cifar10/resnet50_best.pth: there are no such weights: `python train.py --model")
    assert said.endswith("resnet50 --dataset cifar10 --ckpt_dir 'my weights'` makes them")
    for name in ("cifar100/vgg16_best.pth", "cifar10/vgg11_best.pth", "cifar10/vgg11_latest.pth"):
        path = Path("checkpoints", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert refused(*TEST).endswith("there are checkpoints/cifar10/vgg11_best.pth, checkpoints/cifar100/vgg16_best.pth")


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CIFAR-10 of 40 images a file, under PICTORCH_DATA."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        labels = [int(label) for label in draws.permutation(40) % 10]
        batch = {b"data": draws.integers(0, 256, (40, 3072), dtype=np.uint8), b"labels": labels}
        (folder / name).write_bytes(pickle.dumps(batch))
    monkeypatch.setenv("PICTORCH_DATA", str(folder.parent))


def said(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    if words[0] == "test.py":
        seed3.evaluate(words)
    else:
        command.run(seed3.translate(words))
    return capsys.readouterr().out


@pytest.mark.usefixtures("cifar10")
def test_train_then_test(capsys: pytest.CaptureFixture[str]) -> None:
    """One run through both commands, a second one beside it, and weights without their run."""
    names = ("--model", "mobilenetv1", "--dataset", "cifar10")
    train = ("train.py", *names, "--batch_size", "60")
    out = said(*train, "--num_epochs", "2", capsys=capsys)
    assert "Test it: python test.py --model mobilenetv1 --dataset cifar10\n" in out
    run, best, latest = runs.open("runs/cifar10/mobilenetv1"), *weight_files("mobilenetv1")
    saved = torch.load(run.best_checkpoint, weights_only=True)["model"]
    assert same_tensors(torch.load(best, weights_only=True), saved)
    assert same_tensors(torch.load(latest, weights_only=True), torch.load(run.last_checkpoint)["model"])
    [events] = run.path.glob("events*")
    for tag in (b"training loss", b"training accuracy", b"validation loss", b"validation accuracy"):
        assert events.read_bytes().count(tag) == 2

    row = runs.read_result(run)
    accuracies = f"Top-1 Accuracy: {row['test_top1'] / 100:.4f}, Top-5 Accuracy: {row['test_top5'] / 100:.4f}\n"
    out = said("test.py", *names, capsys=capsys)
    assert (
        f"the weights of runs/cifar10/mobilenetv1, epoch {row['best_epoch']} of 2, seed 1; tested in evaluation" in out
    )
    assert "40 test images of cifar10" in out
    assert out.endswith(accuracies)

    assert "tested in training mode, as that program tests" in said("test.py", *names, "--as_published", capsys=capsys)

    first = best.read_bytes()
    out = said(*train, "--num_epochs", "1", "--as_published", capsys=capsys)
    assert out.startswith(
        "runs/cifar10/mobilenetv1 holds another run: this run goes to runs/cifar10/mobilenetv1/run-02"
    )
    row = runs.read_result(RunDir(run.path / "run-02"))
    out = said("test.py", *names, capsys=capsys)
    assert "the weights of runs/cifar10/mobilenetv1/run-02, epoch 1 of 1, seed 1; tested in training mode" in out
    assert f"Top-1 Accuracy: {row['test_top1'] / 100:.4f}, Top-5" in out

    shutil.rmtree("checkpoints")  # as where `pictorch train --resume` finished a run
    assert "weights of runs/cifar10/mobilenetv1/run-02, epoch" in said("test.py", *names, capsys=capsys)
    best.write_bytes(first)
    shutil.rmtree("runs")
    out = said("test.py", *names, capsys=capsys)
    assert "mobilenetv1_best.pth: weights of no run in runs/cifar10/mobilenetv1; tested in evaluation mode" in out
    assert out.endswith(accuracies)


def weight_files(model: str) -> tuple[Path, Path]:
    folder = Path("checkpoints/cifar10")
    return folder / f"{model}_best.pth", folder / f"{model}_latest.pth"


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("cifar10")
def test_weights_alone_of_the_network_as_that_program_had_it(capsys: pytest.CaptureFixture[str]) -> None:
    """MobileNetV1 has biases there, and the test is in training mode: both come with as_published."""
    save(create_model("mobilenet_v1", as_published="seed3").state_dict(), "mobilenetv1")
    out = said("test.py", "--model", "mobilenetv1", "--dataset", "cifar10", capsys=capsys)
    assert "weights of no run in runs/cifar10/mobilenetv1; tested in training mode, as that program tests\n" in out
    assert "40 test images" in out


def save(state: dict[str, torch.Tensor], model: str) -> None:
    path = weight_files(model)[0]
    path.parent.mkdir(parents=True)
    torch.save(state, path)


def test_weights_of_another_program_are_refused() -> None:
    save({"conv1.weight": torch.zeros(64, 3, 3, 3)}, "resnet50")
    message = refused(*TEST)
    assert message.startswith(
        "checkpoints/cifar10/resnet50_best.pth: these are not weights of resnet50 on cifar10 that"
    )
    assert "weights.stem.conv.weight is missing; what the document's own program saved has other names" in message


def test_weights_of_another_network_are_refused() -> None:
    save(create_model("resnet18", num_classes=100).state_dict(), "resnet18")
    message = refused("test.py", "--model", "resnet18", "--dataset", "cifar10")
    assert "weights.classifier.weight is float32 [100, 512], expected float32 [10, 512]" in message


def test_a_run_that_was_stopped_says_how_to_go_on() -> None:
    runs.create(Path("runs/cifar10/resnet50"), {}, {})
    message = refused(*TEST)
    assert (
        "the run in runs/cifar10/resnet50 is not finished: continue it with `pictorch train --resume runs/" in message
    )
