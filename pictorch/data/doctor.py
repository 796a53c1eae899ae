"""What is wrong with a folder of images, and what it is like: every image is decoded once, by threads.

Exact duplicates have the same pixels after decoding (sha256 of height, width and RGB), whatever their files are.
Near-duplicates are those of `duplicates`: of each image the one that resembles it most, in its part and in the others.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from PIL import ExifTags, Image
from torch import Tensor

from pictorch.data.decode import ROTATED, ImageError, check_regular, decode, explained
from pictorch.data.duplicates import MOST_COMPARED, closest, fingerprints
from pictorch.data.folder import PARTS, Scan, problems_of, scan
from pictorch.data.streaming import cores

STATISTIC = "per-channel mean and standard deviation over all pixels of the training images, each image counting alike"
# Images that are handed to the threads at a time.
CHUNK = 1024
# A class with less than this share of the largest one's images is named.
RARE = 0.1
IMAGE_SIZES = (32, 64, 96, 128, 224)
ODD_NAME = re.compile(
    r"(new|untitled) folder|images?|img|misc|others?|unknown|tmp|.*\bcopy\b.*|.*\(\d+\)", re.IGNORECASE
)


class Seen(NamedTuple):
    """One image: where it lies, its header's traits, its pixels in short; `square` is the mean of their squares."""

    path: str
    part: str
    label: str
    height: int
    width: int
    traits: tuple[str, ...]
    digest: bytes
    fingerprint: Tensor
    mean: Tensor
    square: Tensor


class Near(NamedTuple):
    """Two different images that resemble each other, with their cosine."""

    cosine: float
    images: tuple[str, str]
    parts: tuple[str, str]
    labels: tuple[str, str]


class Copies(NamedTuple):
    """Images with the same pixels, and the parts and classes that they lie in."""

    images: tuple[str, ...]
    parts: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What was found. Paths are relative to the folder.

    `counts` are the readable images by part ("all" of a folder that is not split) and class; `problems` are what keeps
    the folder from being used, by kind; `corrupt` has a line with path and reason a file. `sizes` has least, median and
    largest width, height and aspect (the longer side by the shorter); `traits` counts images by what their headers say.
    `near` is None where there are too many images to compare; `mean`, `std` (in [0, 1], of `statistic`), `image_size`
    and `channels` are suggestions, None without a training image.
    """

    path: str
    counts: dict[str, dict[str, int]]
    problems: dict[str, list[str]]
    notes: list[str]
    corrupt: list[str]
    copies: list[Copies]
    near: list[Near] | None
    sizes: dict[str, tuple[float, float, float]]
    traits: dict[str, int]
    rare: list[str]
    odd_names: list[str]
    mean: list[float] | None
    std: list[float] | None
    statistic: str
    image_size: int | None
    channels: int | None

    @property
    def usable(self) -> bool:
        """Whether a run can read every image of the folder."""
        return not self.corrupt and not self.problems


def examine(path: Path, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Look at every image of a folder. `progress` gets how many were read, and of how many.

    Raises UserError if there is no folder, or its order cannot be guessed.
    """
    found = scan(path)
    seen, corrupt = list[Seen](), list[str]()
    total = sum(len(images) for classes in found.parts.values() for images in classes.values())
    for done, result in enumerate(read_all(found, total), 1):
        if isinstance(result, Seen):
            seen.append(result)
        else:
            corrupt.append(result)
        progress(done, total)
    counts = {part: dict.fromkeys(sorted(classes), 0) for part, classes in found.parts.items()}
    for image in seen:
        counts[image.part][image.label] += 1
    training = [image for image in seen if image.part in ("train", "all")]
    mean, std = moments(training)
    return Report(
        path=str(path),
        counts=counts,
        problems=problems_of(found),
        notes=found.notes,
        corrupt=corrupt,
        copies=copies(seen),
        near=near(seen) if total <= MOST_COMPARED else None,
        sizes=sizes(seen),
        traits=dict(Counter(trait for image in seen for trait in image.traits).most_common()),
        rare=rare(counts.get("train") or counts.get("all") or {}),
        odd_names=odd_names(found.classes),
        mean=mean,
        std=std,
        statistic=STATISTIC,
        image_size=suggest_size(training),
        channels=(1 if all("grey" in image.traits for image in training) else 3) if training else None,
    )


def read_all(found: Scan, total: int) -> Iterator[Seen | str]:
    """Yield each image, or what is wrong with it, in the order of parts, classes and paths."""
    files: list[tuple[str, str, str]] = [
        (image.path, part, name)
        for part, classes in found.parts.items()
        for name, images in sorted(classes.items())
        for image in sorted(images)
    ]
    compared = total <= MOST_COMPARED
    with ThreadPoolExecutor(cores(), "pictorch-doctor", torch.set_num_threads, (1,)) as pool:
        for start in range(0, len(files), CHUNK):
            yield from pool.map(lambda file: look(found.root, *file, compared=compared), files[start : start + CHUNK])


def look(root: Path, path: str, part: str, label: str, *, compared: bool) -> Seen | str:
    """Return what one image is, or its path and why it cannot be read."""
    try:
        check_regular(root / path)
        raw = (root / path).read_bytes()
        with explained(""), Image.open(BytesIO(raw)) as image:
            traits = list(header_traits(image))
        pixels = decode(raw, channels=3)
    except OSError as error:
        return f"{path}: this file cannot be read: {error.strerror}"
    except ImageError as error:
        return f"{path}: {str(error).removeprefix(f'{root / path}: ')}"
    if "grey" not in traits and torch.equal(pixels[0], pixels[1]) and torch.equal(pixels[0], pixels[2]):
        traits.append("grey")
    _, height, width = pixels.shape
    values = pixels.to(torch.float32).flatten(1) / 255
    digest = hashlib.sha256(f"{height}x{width}".encode())
    digest.update(pixels.permute(1, 2, 0).numpy().tobytes())
    return Seen(
        path=path,
        part=part,
        label=label,
        height=height,
        width=width,
        traits=tuple(traits),
        digest=digest.digest(),
        fingerprint=fingerprints(pixels[None])[0] if compared else torch.empty(0),
        mean=values.mean(dim=1),
        square=values.square().mean(dim=1),
    )


def header_traits(image: Image.Image) -> Iterator[str]:
    """Yield what an image's header says that is not plain RGB."""
    if image.mode in ("1", "L", "LA") or image.mode.startswith(("I", "F")):
        yield "grey"
    if image.mode.startswith(("I", "F")):
        yield "more than 8 bits"
    if image.mode == "CMYK":
        yield "CMYK"
    if image.mode in ("P", "PA"):
        yield "palette"
    if image.has_transparency_data:
        yield "transparency"
    if image.getexif().get(ExifTags.Base.Orientation) in ROTATED:
        yield "turned by EXIF"
    if getattr(image, "is_animated", False):
        yield "several frames"


def copies(seen: Sequence[Seen]) -> list[Copies]:
    """Return the groups of images with the same pixels, those of the most parts and classes first."""
    groups: dict[bytes, list[Seen]] = {}
    for image in seen:
        groups.setdefault(image.digest, []).append(image)
    found = [
        Copies(
            tuple(image.path for image in group),
            tuple(sorted({image.part for image in group})),
            tuple(sorted({image.label for image in group})),
        )
        for group in groups.values()
        if len(group) > 1
    ]
    return sorted(found, key=lambda group: (-len(group.labels), -len(group.parts)))


def near(seen: Sequence[Seen]) -> list[Near]:
    """Return the near-duplicates within each part and of each part in the earlier ones, the most alike first.

    Of images with the same pixels in one part the first stands for all.
    """
    parts: dict[str, dict[bytes, Seen]] = {}
    for image in seen:
        parts.setdefault(image.part, {}).setdefault(image.digest, image)
    images = {part: list(parts[part].values()) for part in (*PARTS, "all") if part in parts}
    prints = {part: torch.stack([image.fingerprint for image in of_part]) for part, of_part in images.items()}
    pairs = [(part, part) for part in images] + [(later, earlier) for earlier, later in combinations(images, 2)]
    found = []
    for part, other in pairs:
        places, cosines = closest(prints[part], None if part == other else prints[other])
        for (i, j), cosine in zip(places.tolist(), cosines.tolist(), strict=True):
            a, b = images[part][i], images[other][j]
            if a.digest != b.digest:
                found.append(Near(round(cosine, 4), (a.path, b.path), (a.part, b.part), (a.label, b.label)))
    return sorted(found, reverse=True)


def moments(images: Sequence[Seen]) -> tuple[list[float] | None, list[float] | None]:
    """Return mean and standard deviation as STATISTIC says, to four digits; None without images."""
    if not images:
        return None, None
    mean = torch.stack([image.mean for image in images]).double().mean(dim=0)
    square = torch.stack([image.square for image in images]).double().mean(dim=0)
    std = (square - mean.square()).clamp(min=0).sqrt()
    return [round(value, 4) for value in mean.tolist()], [round(value, 4) for value in std.tolist()]


def sizes(images: Sequence[Seen]) -> dict[str, tuple[float, float, float]]:
    """Return least, median and largest width, height and aspect."""
    measures: dict[str, list[float]] = {
        "width": [image.width for image in images],
        "height": [image.height for image in images],
        "aspect": [round(max(image.width / image.height, image.height / image.width), 2) for image in images],
    }
    return {name: (min(values), median(values), max(values)) for name, values in measures.items() if values}


def suggest_size(images: Sequence[Seen]) -> int | None:
    """Return the largest usual size that half of the images reach without being enlarged; 32 at least."""
    if not images:
        return None
    short = median(min(image.height, image.width) for image in images)
    return max((size for size in IMAGE_SIZES if size <= short), default=IMAGE_SIZES[0])


def rare(counts: dict[str, int]) -> list[str]:
    """Return the classes with less than a tenth of the largest one's training images."""
    most = max(counts.values(), default=0)
    return [name for name, count in counts.items() if count < RARE * most]


def odd_names(names: Sequence[str]) -> list[str]:
    """Return, with the reason, the names that are hardly those of classes, or hardly of two."""
    kinds = [
        *((name, "is hardly the name of a class") for name in names if ODD_NAME.fullmatch(name.strip())),
        *((name, "is the name of a part") for name in names if any(name.casefold() in part for part in PARTS.values())),
        *((name, "has blanks around it") for name in names if name != name.strip()),
        *((name, f"is one letter from {name}s") for name in names if f"{name}s" in names),
    ]
    return [f"{name!r} {why}" for name, why in kinds]
