"""The streaming loader: the resident loader's batches, whatever the workers; errors with names; no thread left."""

import signal
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from pictorch.config.errors import UserError
from pictorch.data import Split, files, streaming
from pictorch.data.geometry import ResizedCrop
from pictorch.data.loader import ResidentLoader
from pictorch.data.pipeline import Batch, Pipeline
from pictorch.data.streaming import StreamingLoader, choose_residence, decoded_bytes, imagenet_resize
from pictorch.data.streams import generator

MEAN, STD, SIZE, N = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 8, 23
LABELS = torch.arange(N) % 5


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    drawn = torch.randint(256, (N, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator("images"))
    # The first pixel is the image's number, by which a batch tells which images it has.
    drawn[:, :, 0, 0] = torch.arange(N, dtype=torch.uint8)[:, None]
    return drawn


@pytest.fixture(scope="module")
def paths(images: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{i:02}.png" for i in range(N)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return paths


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Smooth images of several sizes, larger than the network's."""
    folder, draws = tmp_path_factory.mktemp("photographs"), np.random.default_rng(3)
    paths = []
    for i in range(24):
        small = Image.fromarray(draws.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        paths.append(folder / f"{i:02}.png")
        small.resize((40 + 3 * i, 70 - 2 * i), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pictorch-")] == []


def decoded(path: Path) -> torch.Tensor:
    """Return uint8 [3,h,w]. Raises OSError naming the file."""
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)
    except OSError as error:
        raise OSError(f"{path}: {error}") from None


def pipeline(**changes: Any) -> Pipeline:
    options = {"num_classes": 5, "image_size": SIZE, "mean": MEAN, "std": STD, "device": "cpu", "seed": 7}
    return Pipeline(**(options | changes))


def make(paths: list[Path], **changes: Any) -> StreamingLoader:
    of_pipeline = {key: changes.pop(key) for key in ("image_size", "crop_padding", "flip", "seed") if key in changes}
    options: dict[str, Any] = {
        "read": lambda index: decoded(paths[index]),
        "labels": torch.arange(len(paths)) % 5,
        "pipeline": pipeline(**of_pipeline),
        "batch_size": 4,
        "shuffle": True,
        "drop_last": False,
        "workers": 2,
    }
    return StreamingLoader(**(options | changes))


def numbers(batches: list[Batch]) -> list[int]:
    pixels = torch.cat([batch.images[:, 0, 0, 0] for batch in batches])
    return (255 * (pixels * STD[0] + MEAN[0])).round().int().tolist()


def same(first: list[Batch], second: list[Batch]) -> bool:
    assert len(first) == len(second)
    return all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("augmented", [{}, {"crop_padding": 2, "flip": True}])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_images_of_the_right_size_give_the_resident_batches(
    images: torch.Tensor, paths: list[Path], augmented: dict[str, Any], shuffle: bool, drop_last: bool
) -> None:
    resident = ResidentLoader(
        split=Split(images, LABELS), pipeline=pipeline(**augmented), batch_size=4, shuffle=shuffle, drop_last=drop_last
    )
    streamed = make(paths, shuffle=shuffle, drop_last=drop_last, **augmented)
    assert (len(streamed), streamed.images_per_epoch) == (len(resident), resident.images_per_epoch)
    for epoch in (0, 3):
        assert same(list(streamed.epoch(epoch)), list(resident.epoch(epoch)))


def test_the_number_of_workers_has_no_say(photographs: list[Path]) -> None:
    options = {"crop_padding": 2, "flip": True, "resized_crop": ResizedCrop()}
    first, *others = (list(make(photographs, workers=workers, **options).epoch(1)) for workers in (0, 1, 2, 5))
    assert all(same(first, other) for other in others)


def test_epochs_and_seeds_differ(paths: list[Path]) -> None:
    orders = [numbers(list(make(paths, seed=seed).epoch(epoch))) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_is_the_uninterrupted_one_and_decodes_nothing_of_what_was(
    photographs: list[Path], workers: int
) -> None:
    seen: list[int] = []

    def read(index: int) -> torch.Tensor:
        seen.append(index)
        return decoded(photographs[index])

    loader = make(photographs, read=read, workers=workers, resized_crop=ResizedCrop(), flip=True)
    whole = list(loader.epoch(2))
    for start in (0, 1, 4, len(whole)):
        seen.clear()
        assert same(list(loader.epoch(2, start_batch=start)), whole[start:])
        assert sorted(seen) == sorted(loader.order(2)[4 * start :].tolist())


def test_evaluation_is_every_image_once_in_order(paths: list[Path]) -> None:
    batches = list(make(paths, shuffle=False, batch_size=10).epoch(0))
    assert numbers(batches) == list(range(N))
    assert torch.cat([batch.labels for batch in batches]).tolist() == LABELS.tolist()


def test_a_slow_image_does_not_change_the_order(paths: list[Path]) -> None:
    def read(index: int) -> torch.Tensor:
        time.sleep(0.05 if index % 7 == 0 else 0)
        return decoded(paths[index])

    assert numbers(list(make(paths, read=read, shuffle=False, workers=4).epoch(0))) == list(range(N))


def test_no_more_is_read_than_the_batches_ahead(paths: list[Path]) -> None:
    seen: list[int] = []

    def read(index: int) -> torch.Tensor:
        seen.append(index)
        return decoded(paths[index])

    epoch = make(paths, read=read, batch_size=2).epoch(0)
    next(epoch)
    time.sleep(0.1)
    assert len(seen) == 2 * (1 + streaming.LOOK_AHEAD)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_file_in_the_middle_is_named(paths: list[Path], tmp_path: Path, workers: int) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(paths[9].read_bytes()[:60])
    epoch = make([*paths[:9], torn, *paths[10:]], shuffle=False, workers=workers).epoch(0)
    # The batches before it come, and its own does not: image 9 is in the third batch of four.
    assert numbers([next(epoch), next(epoch)]) == list(range(8))
    with pytest.raises(UserError, match=r"torn\.png"):
        next(epoch)


def test_a_missing_file_is_named(paths: list[Path], tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"

    def read(index: int) -> torch.Tensor:
        return torch.from_numpy(np.fromfile(gone, dtype=np.uint8))

    with pytest.raises(UserError, match=r"gone\.png: this file cannot be read: No such file"):
        next(make(paths, read=read).epoch(0))


def test_an_abandoned_epoch_leaves_no_threads_and_no_setting(paths: list[Path]) -> None:
    threads = torch.get_num_threads()
    epoch = make(paths).epoch(0)
    next(epoch)
    assert any(thread.name.startswith("pictorch-reader") for thread in threading.enumerate())
    del epoch
    assert not any(thread.name.startswith("pictorch-") for thread in threading.enumerate())
    told: list[int] = []
    later = threading.Thread(target=lambda: told.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert told == [torch.get_num_threads()] == [threads]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signal to a thread")
def test_an_interrupt_leaves_no_threads(paths: list[Path]) -> None:
    # Ctrl-C while the loop waits for an image; the fixture above looks for threads.
    def read(index: int) -> torch.Tensor:
        if index == 9:
            time.sleep(0.05)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.05)
        return decoded(paths[index])

    with pytest.raises(KeyboardInterrupt):
        list(make(paths, read=read, shuffle=False).epoch(0))


def test_workers_have_one_thread_each_for_torch(paths: list[Path]) -> None:
    told: set[int] = set()

    def read(index: int) -> torch.Tensor:
        told.add(torch.get_num_threads())
        return decoded(paths[index])

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(make(paths, read=read).epoch(0))
        assert (told, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_a_cache_reads_each_file_once_and_changes_no_bit(photographs: list[Path]) -> None:
    seen: list[int] = []

    def read(index: int) -> torch.Tensor:
        seen.append(index)
        return decoded(photographs[index])

    options = {"resized_crop": ResizedCrop(), "flip": True}
    kept, plain = make(photographs, read=read, cache=True, **options), make(photographs, **options)
    for epoch in range(3):
        assert same(list(kept.epoch(epoch)), list(plain.epoch(epoch)))
    assert sorted(seen) == list(range(len(photographs)))


def test_the_evaluation_crop_of_imagenet_against_pillow(photographs: list[Path]) -> None:
    """The shorter side to 256/224 of the size, the centre cut out (arXiv:1512.03385, section 3.4)."""
    size = 28
    loader = make(photographs, image_size=size, resize=imagenet_resize(size), shuffle=False)
    assert imagenet_resize(224) == 256
    assert loader.resize == 32
    got = torch.cat([batch.images for batch in loader.epoch(0)])
    got = 255 * (got * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None])
    for image, path in zip(got, photographs, strict=True):
        # torchvision's Resize and CenterCrop: the longer side is rounded down, the corner to the nearest pixel.
        with Image.open(path) as original:
            short = min(original.size)
            sides = original.width * 32 // short, original.height * 32 // short
            scaled = original.resize(sides, Image.Resampling.BILINEAR)
        left, top = round((scaled.width - size) / 2), round((scaled.height - size) / 2)
        centre = np.array(scaled.crop((left, top, left + size, top + size)))
        assert (image - torch.from_numpy(centre).permute(2, 0, 1)).abs().max() < 1.01


def test_random_parts_are_those_of_the_resident_loader(paths: list[Path]) -> None:
    """Images of one size have the same boxes in both; the pixels come from two resamplers, equal to a grey level."""
    images = torch.stack([decoded(path) for path in paths])
    options: dict[str, Any] = {"batch_size": 4, "shuffle": True, "drop_last": False, "resized_crop": ResizedCrop()}
    resident = ResidentLoader(split=Split(images, LABELS), pipeline=pipeline(flip=True), **options)
    for ours, theirs in zip(make(paths, flip=True, **options).epoch(1), resident.epoch(1), strict=True):
        assert torch.equal(ours.labels, theirs.labels)
        grey = (ours.images - theirs.images) * 255 * torch.tensor(STD)[:, None, None]
        assert grey.abs().max() < 1.01


def test_random_parts_have_the_published_distribution() -> None:
    """Area uniform on 8 to 100 per cent, log of the aspect uniform on 3/4 to 4/3 (arXiv:1409.4842, section 6), where
    the part fits: of an image whose pixels are their own coordinates, a batch tells the box."""
    size, n = 64, 2000
    ramp = torch.stack([torch.arange(256.0)[:, None].expand(256, 256), torch.arange(256.0).expand(256, 256)])
    image = torch.cat([ramp, ramp[:1]]).to(torch.uint8)
    loader = StreamingLoader(
        read=lambda index: image,
        labels=torch.zeros(n, dtype=torch.int64),
        pipeline=Pipeline(num_classes=1, image_size=size, mean=(0, 0, 0), std=(1, 1, 1), device="cpu", seed=5),
        batch_size=100,
        shuffle=True,
        drop_last=False,
        workers=1,
        resized_crop=ResizedCrop(area=(0.08, 0.4)),
    )
    pixels = 255 * torch.cat([batch.images for batch in loader.epoch(0)])
    # A row further is 1/size of the box further. Grey levels are whole, so sides are known to two pixels: the noise
    # fills the gaps, for the test knows no ties.
    noise = 2 * torch.rand(2, n, generator=generator("noise")) - 1
    height = (pixels[:, 0, 48, 32] - pixels[:, 0, 16, 32]) * size / 32 + noise[0]
    width = (pixels[:, 1, 32, 48] - pixels[:, 1, 32, 16]) * size / 32 + noise[1]
    area, aspect = height * width / 256**2, (width / height).log()
    assert stats.kstest(area, stats.uniform(0.08, 0.32).cdf).pvalue > 0.001
    low, high = np.log([3 / 4, 4 / 3])
    assert stats.kstest(aspect, stats.uniform(low, high - low).cdf).pvalue > 0.001


def test_what_does_not_fit_is_said_before_anything_is_read(paths: list[Path]) -> None:
    with pytest.raises(UserError, match=r"batches of 24 images, but there are 23 .* expected at most 23"):
        make(paths, batch_size=24, drop_last=True)
    with pytest.raises(UserError, match="both must be at least 1"):
        make(paths, batch_size=0)
    with pytest.raises(ValueError, match=r"labels outside 0\.\.4"):
        make(paths, labels=torch.arange(N))


def test_decoded_bytes_are_counted_from_headers(photographs: list[Path], tmp_path: Path) -> None:
    expected = 3 * sum((40 + 3 * i) * (70 - 2 * i) for i in range(24))
    assert decoded_bytes(photographs.__getitem__, 24, channels=3) == expected
    assert decoded_bytes(lambda i: BytesIO(photographs[i].read_bytes()), 24, channels=1) == expected // 3
    text = tmp_path / "text.png"
    text.write_text("no image")
    assert decoded_bytes([photographs[0], text].__getitem__, 2, channels=3) == 2 * 3 * 40 * 70
    with pytest.raises(UserError, match="of 1 images no header can be read"):
        decoded_bytes([text].__getitem__, 1, channels=3)


def test_a_set_is_resident_if_it_takes_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "free_memory_bytes", lambda device: 4_000_000_000)
    assert choose_residence(2_000_000_000, "cpu") == (
        True,
        "2.0 GB of decoded images, at most 50% of the 4.0 GB that are free on cpu",
    )
    assert choose_residence(2_100_000_000, "cpu") == (
        False,
        "2.1 GB of decoded images, more than 50% of the 4.0 GB that are free on cpu",
    )
    monkeypatch.setattr(streaming, "free_memory_bytes", lambda device: None)
    assert choose_residence(1000, "cpu") == (
        False,
        "1.0 kB of decoded images; how much memory is free is not known here",
    )


def test_free_memory_is_less_than_there_is() -> None:
    free = streaming.free_memory_bytes(torch.device("cpu"))
    assert free is None or 0 < free < 2**50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_batches_on_a_gpu_are_those_of_the_cpu(photographs: list[Path]) -> None:
    options: dict[str, Any] = {"resized_crop": ResizedCrop(), "batch_size": 3}
    on_gpu = make(photographs, pipeline=pipeline(device="cuda", flip=True, crop_padding=1), **options).epoch(1)
    on_cpu = make(photographs, pipeline=pipeline(flip=True, crop_padding=1), **options).epoch(1)
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        assert ours.images.device.type == "cuda"
        torch.testing.assert_close(ours.images.cpu(), theirs.images)
        assert torch.equal(ours.labels.cpu(), theirs.labels)


@pytest.mark.real_data
def test_photographs_at_two_sizes_of_workers() -> None:
    paths = sorted((files.root() / "hymenoptera_data" / "val").rglob("*.jpg"))[:16]
    if not paths:
        pytest.skip(f"no hymenoptera_data under {files.root()}")
    options = {"image_size": 224, "batch_size": 8, "resized_crop": ResizedCrop(), "flip": True}
    one, two = (list(make(paths, workers=workers, **options).epoch(0)) for workers in (1, 2))
    assert same(one, two)
    assert one[0].images.shape == (8, 3, 224, 224)
