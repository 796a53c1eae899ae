"""How long our networks take to build, and a forward and backward pass to run, against independent implementations.

    python benchmarks/models.py                                        the peers that are installed
    python benchmarks/models.py "resnet*" --peer kuangliu=../pytorch-cifar --peer weiaicunzai=../pytorch-cifar100

Peers: pytorchcv and timm from the package registry (`python -m pip install --no-deps pytorchcv`; timm where it
imports), github.com/kuangliu/pytorch-cifar and github.com/weiaicunzai/pytorch-cifar100 as folders. Prints CSV: medians
of interleaved rounds in milliseconds, and ours divided by the peer's (under 1: ours is faster). Both sides are float32
in channels_last order, in training mode, on the same images; a peer with other parameters is another network, and the
column says how many it has.
"""

import argparse
import csv
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import pictorch


class Peer(NamedTuple):
    """An implementation of a network: whose, the function that builds it, and its arguments."""

    whose: str
    function: str
    keywords: dict[str, object]


class Row(NamedTuple):
    """One of our networks, the batch it is timed on, and its peers."""

    name: str
    options: dict[str, object]
    batch: tuple[int, int, int, int]
    peers: list[Peer]


CIFAR, IMAGENET = (32, 3, 32, 32), (4, 3, 224, 224)
WIDE = {"num_classes": 1000, "image_size": 224}


def cv(function: str, **keywords: object) -> Peer:
    return Peer("pytorchcv", f"pytorchcv.models.{function}", keywords)


ROWS = [
    Row("resnet_20", {}, CIFAR, [cv("resnet_cifar:resnet20_cifar10")]),
    Row(
        "resnet18",
        {},
        CIFAR,
        [Peer("kuangliu", "models.resnet:ResNet18", {}), Peer("weiaicunzai", "models.resnet:resnet18", {})],
    ),
    Row("resnet_preact_20", {}, CIFAR, [cv("preresnet_cifar:preresnet20_cifar10")]),
    Row("resnet_preact18", {}, CIFAR, [Peer("kuangliu", "models.preact_resnet:PreActResNet18", {})]),
    Row("se_resnet_20", {}, CIFAR, [cv("seresnet_cifar:seresnet20_cifar10")]),
    Row("se_resnet_preact_20", {}, CIFAR, [cv("sepreresnet_cifar:sepreresnet20_cifar10")]),
    Row(
        "wrn_16_10",
        {},
        (8, 3, 32, 32),
        [
            cv("wrn_cifar:wrn16_10_cifar10"),
            Peer("weiaicunzai", "models.wideresidual:wideresnet", {"depth": 16, "widen_factor": 10}),
        ],
    ),
    Row("densenet_bc_100_12", {}, CIFAR, [cv("densenet_cifar:densenet100_k12_bc_cifar10")]),
    Row(
        "densenet121",
        {},
        (8, 3, 32, 32),
        [Peer("kuangliu", "models.densenet:DenseNet121", {}), Peer("weiaicunzai", "models.densenet:densenet121", {})],
    ),
    Row("pyramidnet_110_a48", {}, CIFAR, [cv("pyramidnet_cifar:pyramidnet110_a48_cifar10")]),
    Row(
        "resnext",
        {"depth": 29, "cardinality": 32, "base_channels": 4},
        CIFAR,
        [cv("resnext_cifar:resnext29_32x4d_cifar10")],
    ),
    Row("shake_shake_26_2x32d", {}, CIFAR, [cv("shakeshakeresnet_cifar:shakeshakeresnet26_2x32d_cifar10")]),
    Row(
        "vgg",
        {"depth": 16, "batch_norm": True},
        CIFAR,
        [
            Peer("kuangliu", "models.vgg:VGG", {"vgg_name": "VGG16"}),
            Peer("weiaicunzai", "models.vgg:vgg16_bn", {}),
        ],
    ),
    Row("googlenet", {"batch_norm": True}, CIFAR, [Peer("kuangliu", "models.googlenet:GoogLeNet", {})]),
    Row("mobilenet_v1", WIDE, IMAGENET, [cv("mobilenet:mobilenet_w1")]),
    Row("mobilenet_v2", WIDE, IMAGENET, [cv("mobilenetv2:mobilenetv2_w1")]),
    Row("shufflenet_v1", {"groups": 3, **WIDE}, IMAGENET, [cv("shufflenet:shufflenet_g3_w1")]),
    Row("shufflenet_v2", {"width": 1.0, **WIDE}, IMAGENET, [cv("shufflenetv2:shufflenetv2_w1")]),
    Row("xception", {"num_classes": 1000, "image_size": 299}, (2, 3, 299, 299), [cv("xception:xception")]),
    Row(
        "vit_s_4",
        {},
        CIFAR,
        [
            Peer(
                "timm",
                "timm:create_model",
                {"model_name": "vit_small_patch16_224", "img_size": 32, "patch_size": 4, "num_classes": 10},
            )
        ],
    ),
]


def find(peer: Peer, folders: dict[str, Path]) -> Callable[[], nn.Module] | None:
    """Return what builds the peer's network, or None where the peer is not here."""
    module, _, name = peer.function.partition(":")
    # The folders' packages are all called `models`.
    for loaded in [key for key in sys.modules if key.partition(".")[0] == "models"]:
        del sys.modules[loaded]
    before = list(sys.path)
    # This file's own folder would offer the file itself as `models`.
    sys.path[:] = [str(folders[peer.whose])] if peer.whose in folders else []
    sys.path += [path for path in before if Path(path) != Path(__file__).parent]
    try:
        return partial(getattr(importlib.import_module(module), name), **peer.keywords)
    except (ImportError, RuntimeError):  # timm, beside a torch of another build, raises the latter
        return None
    finally:
        sys.path[:] = before


def interleaved(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median milliseconds of each piece of work, all taken in turns, after one turn that is not counted."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for times, work in zip(seconds, works, strict=True):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return [1000 * statistics.median(times[1:]) for times in seconds]


def step(model: nn.Module, images: torch.Tensor) -> None:
    out = model(images)
    (out[0] if isinstance(out, tuple) else out).float().square().mean().backward()
    model.zero_grad(set_to_none=True)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("pattern", nargs="?", default="*", help="which networks, with * and ?")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FOLDER", help="a peer's checkout")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    folders = {name: Path(folder) for name, folder in (text.split("=", 1) for text in arguments.peer)}
    out = csv.writer(sys.stdout)
    header = "network,peer,params,peer_params,build_ms,peer_build_ms,build_ratio,step_ms,peer_step_ms,step_ratio"
    out.writerow(header.split(","))
    for row in ROWS:
        if not fnmatchcase(row.name, arguments.pattern):
            continue
        ours = partial(pictorch.create_model, row.name, **row.options)
        for peer in row.peers:
            theirs = find(peer, folders)
            if theirs is None:
                print(f"{row.name}: {peer.whose} is not here", file=sys.stderr)
                continue
            builds = interleaved([ours, theirs], arguments.rounds)
            pair = [build().to(memory_format=torch.channels_last).train() for build in (ours, theirs)]
            images = torch.randn(row.batch).to(memory_format=torch.channels_last)
            steps = interleaved([partial(step, model, images) for model in pair], arguments.rounds)
            figures = [f"{x:.2f}" for x in (*builds, builds[0] / builds[1], *steps, steps[0] / steps[1])]
            out.writerow([row.name, peer.whose, *map(parameters, pair), *figures])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
