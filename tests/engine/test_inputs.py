"""From the configuration to loaders: where images lie, what is held out, and the same run from folder and memory."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PressCtrlC, same, small_config, state_of
from PIL import Image

from pictorch import api, data
from pictorch.config import UserError
from pictorch.data.loader import ResidentLoader
from pictorch.data.streaming import StreamingLoader
from pictorch.engine.build import build
from pictorch.engine.interrupt import Interrupted

SETTINGS = (
    "model={name: resnet_preact, depth: 8, base_channels: 4}",
    "data.image_size=8",
    "train.epochs=2",
    "train.batch_size=16",
    "train.precision=fp32",
    "track.tensorboard=false",
)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Photographs of two classes of several sizes, 24 for training and 10 for the test each."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 10)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                size = (int(draws.integers(8, 20)), int(draws.integers(8, 20)), 3)
                pixels = draws.integers(0, 128, size, dtype=np.uint8) + np.uint8(120 * label)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pets"


def config(pets: Path, *overrides: str) -> api.Config:
    return api.load_config(None, [*SETTINGS, f"data.name={pets}", *overrides])


def test_a_folder_is_resident_or_read_when_needed_to_the_same_bits(pets: Path) -> None:
    resident, streamed = (build(config(pets, f"data.resident={flag}")) for flag in ("true", "false"))
    assert isinstance(resident.train_loader, ResidentLoader)
    assert isinstance(streamed.train_loader, StreamingLoader)
    for loaders in ((resident.train_loader, streamed.train_loader), (resident.test_loader, streamed.test_loader)):
        for first, second in zip(*(loader.epoch(1) for loader in loaders), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert "in memory: data.resident=true" in resident.notes
    assert "read when needed: data.resident=false" in streamed.notes


def test_what_was_decided_by_itself_is_said_with_the_sizes(pets: Path) -> None:
    notes = build(config(pets)).notes
    assert f"{pets}: there is no test/; val/ is the test part" in notes
    (decision,) = [note for note in notes if note.startswith("in memory: 23.6 kB of decoded images, at most 50% of")]
    assert decision.endswith("that are free on cpu")


@pytest.mark.parametrize("resident", ["true", "false"])
def test_a_run_on_a_folder_learns_resumes_and_is_used(pets: Path, resident: str) -> None:
    settings = config(pets, f"data.resident={resident}", "augment={crop: null, resized_crop: {}, flip: true}")
    whole = api.train(settings, out="whole")
    with pytest.raises(Interrupted):
        api.train(settings, out="run", progress=PressCtrlC(4))
    assert api.resume("run").row["test_error"] == whole.test_error
    assert same(state_of(Path("run")), state_of(Path("whole")))
    assert whole.row["dataset"].startswith("pets@")
    assert api.evaluate("run").error == whole.test_error
    files = [pets / "val" / name / f"{number}.png" for name in ("cat", "dog") for number in range(10)]
    answers = api.predict("run", sorted(files), top_k=1)
    labels = ["cat" if "/cat/" in str(path) else "dog" for path in sorted(files)]
    wrong = sum(answer.classes[0] != label for answer, label in zip(answers, labels, strict=True))
    assert 100 * wrong / 20 == whole.test_error


def test_all_files_of_a_part_that_cannot_be_read_are_listed_at_once(pets: Path) -> None:
    bad = [pets / "train" / "cat" / "0.png", pets / "train" / "dog" / "3.png"]
    for path in bad:
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^2 images cannot be used:\n") as caught:
        build(config(pets))
    assert str(caught.value).splitlines()[1:] == [
        f"  {path}: this is not an image file that Pillow knows" for path in bad
    ]
    bad[0].unlink()
    with pytest.raises(UserError, match=rf"^{re.escape(str(bad[1]))}: this is not an image file that Pillow knows$"):
        build(config(pets))


def test_an_evaluation_finds_a_folder_that_the_run_named_from_another_directory(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := pets.parent / "elsewhere").mkdir()
    monkeypatch.chdir(pets.parent)
    # As a folder of the working directory, by its name alone; then as one under the data root.
    for number, settings in enumerate((config(Path(pets.name)), config(Path(pets.name), f"data.dir={pets.parent}"))):
        error = api.train(settings, out=f"run{number}").test_error
        monkeypatch.chdir(elsewhere)
        assert api.evaluate(pets.parent / f"run{number}").error == error
        monkeypatch.chdir(pets.parent)


def test_decoded_images_are_kept_for_random_parts_of_them(pets: Path) -> None:
    job = build(config(pets, "augment={crop: null, resized_crop: {}}"))
    assert isinstance(job.train_loader, StreamingLoader)
    read = job.train_loader.read
    assert callable(read)
    assert read(3) is read(3)


def test_a_part_of_the_folder_for_validation_and_statistics_of_one_s_own(pets: Path) -> None:
    job = build(config(pets, "data.val_fraction=0.25", "data.mean=[0.5, 0.5, 0.5]", "data.std=[0.25, 0.25, 0.25]"))
    assert job.val_loader is not None
    assert [len(loader.labels) for loader in (job.train_loader, job.val_loader, job.test_loader)] == [36, 12, 20]
    assert job.mean.tolist() == [0.5, 0.5, 0.5]
    assert job.dataset.spec.statistic == "given in the configuration"
    with pytest.raises(UserError, match=r"data\.mean: expected a value for each of 3 channels, got 1"):
        build(config(pets, "data.mean=[0.5]"))
    with pytest.raises(UserError, match=r"train\.select: best-val needs a validation part"):
        build(config(pets, "train.select=best-val"))


def test_classes_of_which_no_training_image_is_left_are_named(pets: Path) -> None:
    job = build(config(pets, "data.fraction=0.02", "data.drop_last=false"))
    assert "no training image is left of 1 of 2 classes: dog" in job.notes
    assert not any("is left of" in note for note in build(config(pets)).notes)


def test_a_validation_part_on_the_disk_is_used_and_not_split_again(pets: Path) -> None:
    (pets / "val").rename(pets / "test")
    (pets / "train").rename(pets / "val")
    shutil.copytree(pets / "val", pets / "train")
    job = build(config(pets, "train.select=best-val"))
    assert job.val_loader is not None
    assert len(job.val_loader.labels) == 48
    with pytest.raises(UserError, match=r"data\.val_fraction: .*pets@\w{8} has a validation part of its own"):
        build(config(pets, "data.val_fraction=0.1"))


def test_a_mean_image_needs_images_in_memory(pets: Path) -> None:
    job = build(config(pets, "data.normalise=pixel"))
    assert job.mean.shape == (3, 8, 8)
    assert isinstance(job.train_loader, ResidentLoader)
    whole = job.train_loader.pipeline
    assert whole.crop_padding == 1
    originals = job.train_loader.source[: len(job.train_loader.labels), :, 1:-1, 1:-1]
    torch.testing.assert_close(job.mean, originals.float().mean(0) / 255)
    with pytest.raises(UserError, match=r"data\.normalise: a mean image needs images that lie in memory"):
        build(config(pets, "data.normalise=pixel", "data.resident=false"))


def test_a_known_set_with_other_statistics_keeps_its_name() -> None:
    job = build(api.load_config(None, ["data.mean=[0.5]", "data.std=[0.5]"]))
    assert job.dataset.name == "digits"
    assert job.mean.tolist() == [0.5]
    assert isinstance(job.dataset.spec, data.DatasetSpec)


def test_a_known_set_that_is_not_to_be_resident_is_streamed_to_the_same_bits() -> None:
    flags = ("auto", "false")
    resident, streamed = (build(api.load_config(None, ["augment.flip=true", f"data.resident={x}"])) for x in flags)
    assert isinstance(resident.train_loader, ResidentLoader)
    assert isinstance(streamed.train_loader, StreamingLoader)
    assert "read when needed: data.resident=false" in streamed.notes
    for loaders in ((resident.train_loader, streamed.train_loader), (resident.test_loader, streamed.test_loader)):
        for first, second in zip(*(loader.epoch(1) for loader in loaders), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_split_may_be_drawn_anew_by_each_run() -> None:
    anew = ("data.val_fraction=0.2", "data.split_seed=run")
    jobs = [build(small_config(*anew, f"train.seed={seed}")) for seed in (3, 3, 4)]
    first, again, other = (job.val_loader.labels for job in jobs if job.val_loader)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    fixed = build(small_config("data.val_fraction=0.2", "data.split_seed=4", "train.seed=3")).val_loader
    assert fixed
    assert torch.equal(fixed.labels, other)


def test_test_images_may_be_cropped_and_mirrored_as_training_images() -> None:
    """What document 1's program did to FashionMNIST: 32x32 of 28x28 padded by 4; here 10x10 of 8x8 padded by 2."""
    overrides = ("evaluation.crop={padding: 2, size: 10}", "evaluation.flip=true", "data.val_fraction=0.1")
    job, plain = build(small_config(*overrides)), build(small_config("data.val_fraction=0.1"))
    (images, again) = (torch.cat([batch.images for batch in job.test_loader.epoch(0)]) for _ in range(2))
    assert torch.equal(images, again)
    originals = torch.cat([batch.images for batch in plain.test_loader.epoch(0)])
    black = -job.dataset.spec.mean[0] / job.dataset.spec.std[0]
    padded = torch.nn.functional.pad(originals, [2] * 4, value=black)
    places = [padded[:, :, y : y + 10, x : x + 10] for y in range(3) for x in range(3)]
    matches = torch.stack([(images - p).abs().amax((1, 2, 3)) < 1e-5 for q in places for p in (q, q.flip(3))])
    assert matches.any(0).all()
    counts = matches.sum(1)
    assert (counts > 0).all()
    assert not torch.equal(
        job.test_loader.pipeline.draw(0, torch.arange(9), size_of_set=9, batch_size=9).offsets,
        job.train_loader.pipeline.draw(0, torch.arange(9), size_of_set=9, batch_size=9).offsets,
    )
    assert job.val_loader
    assert plain.val_loader
    for ours, theirs in zip(job.val_loader.epoch(0), plain.val_loader.epoch(0), strict=True):
        assert torch.equal(ours.images, theirs.images)
    result = api.train(small_config(*overrides, "train.epochs=1"), out="run")
    assert api.evaluate("run", device="cpu").error == result.test_error
