"""Write docs/explain.md: `python docs/explain.py`. A test does the same and compares.

The table of maps is what a pass through each network finds. The pictures are made by the commands that stand under
them, and the figures by benchmarks/explain.py.
"""

from pathlib import Path

import torch

from pictorch import models
from pictorch.deploy.explain import Pass, map_of
from pictorch.deploy.watch import Watch

PAGE = Path(__file__).with_suffix(".md")
TEXT = Path(__file__).with_name("explain") / "text.md"
# Of each family a network for CIFAR's size and one for ImageNet's, where it has them.
NETWORKS = {
    "resnet": ("resnet_20", "resnet50"),
    "resnet_preact": ("resnet_preact_20", "resnet_preact50"),
    "se_resnet": ("se_resnet_20", "se_resnet50"),
    "se_resnet_preact": ("se_resnet_preact_20", "se_resnet_preact50"),
    "densenet": ("densenet_40_12", "densenet121"),
    "pyramidnet": ("pyramidnet_110_a84", "pyramidnet200_a300"),
    "vgg": ("vgg16_bn", "vgg16"),
    "wrn": ("wrn_28_10", None),
    "resnext": ("resnext_29_8x64d", "resnext50_32x4d"),
    "shake_shake": ("shake_shake_26_2x64d", None),
    "mobilenet_v1": ("mobilenet_v1_100", "mobilenet_v1_100"),
    "mobilenet_v2": ("mobilenet_v2_100", "mobilenet_v2_100"),
    "shufflenet_v1": ("shufflenet_v1_g3", "shufflenet_v1_g3"),
    "shufflenet_v2": ("shufflenet_v2_100", "shufflenet_v2_100"),
    "resnet9": ("resnet9", None),
    "airbench": ("airbench94", None),
    "googlenet": ("googlenet_bn", "googlenet_aux"),
    "xception": ("xception", "xception_imagenet"),
    "vit": ("vit_ti_4", "vit_ti_16"),
}


def page() -> str:
    """Return the whole page."""
    rows = ["| family | for 32x32 images | | for 224x224 images | |", "|---|---|---|---|---|"]
    for family, (small, large) in NETWORKS.items():
        cells = [f"`{small}`", found(small, 32), *([f"`{large}`", found(large, 224)] if large else ["", ""])]
        rows.append(f"| {family} | {' | '.join(cells)} |")
    return TEXT.read_text(encoding="utf-8").replace("<!-- table -->", "\n".join(rows))


def found(name: str, size: int) -> str:
    """Return what `pictorch explain` reads of a network by itself."""
    with torch.device("meta"):
        model = models.create(name, image_size=size).eval()
        images = torch.zeros(1, 3, size, size).requires_grad_()
        with Watch(model) as seen:
            logits = model(images)
    if seen.attentions:
        return f"{len(seen.attentions)} layers of attention"
    last = map_of(Pass(images, logits, seen), None)
    assert last is not None
    return f"{seen.name_of(last)}, {last.side} x {last.side}"


if __name__ == "__main__":
    assert set(NETWORKS) == set(models.families())
    PAGE.write_text(page(), encoding="utf-8")
