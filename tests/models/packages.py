"""torchvision and timm, where they are installed, also beside a torch that torchvision was not built for."""

import importlib.util
import sys
import warnings
from types import ModuleType

import pytest
import torch

OPERATORS = {
    **dict.fromkeys(("nms", "qnms"), "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    **dict.fromkeys(
        (f"{a}{b}{c}" for b in ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
         for a, c in (("", ""), ("_", "_backward"))),
        "(Tensor x) -> Tensor",
    ),
}  # fmt: skip

libraries = []


def import_or_skip() -> tuple[ModuleType, ModuleType]:
    """Return torchvision and timm, whose networks need none of torchvision's compiled operators; else skip the test."""
    for name in ("torchvision", "timm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision
        except RuntimeError:  # built for CUDA, beside a torch that is not: its operators are declared, and never called
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            libraries.append(torch.library.Library("torchvision", "DEF"))
            for name, signature in OPERATORS.items():
                libraries[-1].define(name + signature)
            import torchvision
        import timm
    return torchvision, timm
