"""Write docs/methods.md anew from the docstrings of the methods: `python docs/methods.py`."""

import inspect
from pathlib import Path

from pictorch import losses
from pictorch.data import augment, erasing, geometry, mix, pixels, policies
from pictorch.models import ghost
from pictorch.optim import OPTIMIZERS, average, groups
from pictorch.optim.sam import SAM

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Methods

What each method does, its source, and where published programs differ: the docstrings of the code that does it. The
keys and their values stand in [configuration.md](configuration.md), schedules in [schedules.md](schedules.md), what
each costs in [log.md](log.md). All work on whole batches on the device; every random number is a function of (seed,
epoch, position in the epoch), or for mixes of (seed, epoch, batch).

This page is written by `python docs/methods.py`.
"""
SECTIONS: dict[str, dict[str, object]] = {
    "Crop and flip": {
        "augment.crop": "A crop of the image's own size at a uniform place of the padded image (He et al. 2015, "
        "arXiv:1512.03385, section 4.2).\n\n" + str(inspect.getdoc(augment.pad)).partition("\n\n")[2],
        "augment.resized_crop": geometry.ResizedCrop,
        "augment.flip=true": "Each image is mirrored with probability one half (the same section).",
        "augment.flip=alternating": "A random half of the images is mirrored in the first epoch, and in every other "
        "epoch those that were not in the one before: two epochs show each image both ways (Jordan 2024, "
        "arXiv:2404.00498).",
        "data.normalise": "(x / 255 - mean) / std per channel, or with `pixel` the mean image of the training part is "
        "subtracted pixel by pixel from what the crop gives.",
    },
    "Steps on single images": {
        "augment.rotate": geometry.Rotate,
        "augment.jitter": pixels.Jitter,
        "augment.policy=autoaugment": policies.AutoAugment,
        "augment.policy=randaugment": policies.RandAugment,
        "augment.policy=trivialaugment": policies.TrivialAugment,
        "augment.policy=augmix": policies.AugMix,
        "augment.random_erasing": erasing.RandomErasing,
        "augment.cutout": erasing.Cutout,
        "augment.dual_cutout": erasing.DualCutout,
    },
    "Mixes": {
        "augment.mixup": mix.Mixup,
        "augment.cutmix": mix.CutMix,
        "augment.ricap": mix.Ricap,
        "augment.resizemix": mix.ResizeMix,
        "augment.label_smoothing": mix.smooth,
    },
    "Losses": {f"loss={name}": loss.function for name, loss in losses.LOSSES.items()},
    "Optimisers": {f"optim={name}": kind for name, (kind, _) in OPTIMIZERS.items()},
    "Parameters": {
        "optim.decay_norm_and_bias": groups.is_weight,
        "optim.freeze": groups.freeze,
        "optim.lr_head_factor": groups.head,
    },
    "Averages and batch norm": {
        "ema": average.EMA,
        "swa": average.SWA,
        "train.ghost_batches": ghost.GhostBatchNorm,
    },
}
OURS = {SAM, *(kind for kind, _ in OPTIMIZERS.values() if kind.__module__.startswith("pictorch"))}


def described(thing: object) -> str:
    """Return a docstring as paragraphs; of an optimiser of torch's its name, of one of ours its module's first."""
    if isinstance(thing, str):
        return thing
    if thing in OURS:
        module = inspect.getmodule(thing)
        return f"{inspect.getdoc(module)}\n\n{inspect.getdoc(thing)}"
    if inspect.isclass(thing) and thing.__module__.startswith("torch"):
        return f"torch's `{thing.__name__}`, one kernel for all parameters."
    return inspect.getdoc(thing) or ""


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    for title, methods in SECTIONS.items():
        lines.append(f"## {title}\n")
        lines += [f"**`{key}`** {described(thing)}\n" for key, thing in methods.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
