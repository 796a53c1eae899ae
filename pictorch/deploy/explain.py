"""Where in an image a finished run's network finds the evidence for a class: Grad-CAM, attention rollout, occlusion.

    heat = heatmap(Predictor(run_dir), pixels, class_index)                              float32 [S,S] from 0 to 1
    overlay(pixels, heat).save("why.png")

Grad-CAM: R. Selvaraju et al., arXiv:1610.02391, of the last map that all goes through (`deploy.watch`). Attention
rollout: S. Abnar, W. Zuidema, arXiv:2005.00928. Occlusion and the check of a map: `deploy.occlusion`. All of them are
of one view of the image, whatever views the run answers by.

Any number of threads may call these with one Predictor: nothing of it is changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pictorch.config import UserError, nearest
from pictorch.deploy import occlusion
from pictorch.deploy.occlusion import Answers, Check, Occlusion
from pictorch.deploy.overlay import overlay
from pictorch.deploy.predict import Predictor
from pictorch.deploy.watch import Attention, Map, Watch, channels_first

__all__ = ["Check", "Explanation", "Method", "explain", "heatmap", "overlay"]

Method = Literal["auto", "gradcam", "rollout", "occlusion"]
SMALLEST_SIDE = 2  # pixels; a single one says nothing of places
# Of the map that Grad-CAM takes by itself, where there is such a one. On digits 2x2 maps order the parts of an image no
# better than chance; 3x3 maps of FashionMNIST do as well as the 6x6 and 7x7 before them (docs/explain.md).
USUAL_SIDE = 3


@dataclass(frozen=True)
class Explanation:
    """Why a network answers as it does, of one image.

    `pixels` uint8 [C,S,S] are what it sees, `heat` float32 [S,S] from 0 to 1 where the evidence for class `target` lies
    by `method`, of `layer` in words. `values` is the method's own map, before it is brought to the image's size.
    `predicted` is the most probable class, `probability` that of the target. With a check, `drops` [S,S] is how far the
    probability falls when what is around a pixel is covered.
    """

    pixels: Tensor
    method: Method
    layer: str
    predicted: int
    target: int
    probability: float
    values: Tensor
    heat: Tensor
    drops: Tensor | None
    check: Check | None


@dataclass(frozen=True)
class Pass:
    """One forward pass of an image, watched: image [1,C,S,S], a leaf with a gradient, logits [1,K], what was seen."""

    image: Tensor
    logits: Tensor
    seen: Watch


@dataclass(frozen=True)
class Found:
    """What a method found: its map [h,w], where it was read, in words, and the heat [S,S] from 0 to 1 that it means."""

    method: Method
    layer: str
    values: Tensor
    heat: Tensor


def heatmap(
    predictor: Predictor,
    pixels: Tensor,
    class_index: int | None = None,
    *,
    method: Method = "auto",
    layer: str | None = None,
    side: int | None = None,
    patch: int | None = None,
) -> Tensor:
    """Return where an image uint8 [C,S,S] has the evidence for a class, float32 [S,S] from 0 to 1.

    Arguments and errors are those of `explain`; this takes one forward pass, and half a backward one for Grad-CAM.
    """
    check_arguments(predictor, pixels, class_index, method, layer, side, patch)
    watched = watch(predictor, pixels, layer, named=False)
    return find(predictor, watched, target_of(watched, class_index), method, layer, side, patch)[0].heat


def explain(
    predictor: Predictor,
    pixels: Tensor,
    class_index: int | None = None,
    *,
    method: Method = "auto",
    layer: str | None = None,
    side: int | None = None,
    patch: int | None = None,
    checked: bool = True,
) -> Explanation:
    """Explain the answer to an image uint8 [C,S,S], as `Predictor.pixels` makes it.

    class_index: the class whose evidence is looked for; the most probable one unless given.
    method: "auto" is rollout for a network that attends to all patches and has no map behind that, Grad-CAM for one
        with maps, else occlusion.
    layer: Grad-CAM's, a module by its dotted name. side: without one, the last map of at least so many pixels a side,
        3 unless given, or 2 where there is no such map.
    patch: pixels a side of the square that occlusion covers, a quarter of the image's unless given.
    checked: whether to find out by covering parts of the image if the map can be trusted.

    Raises UserError for what the image, the class, the method or the network cannot be used for.
    """
    check_arguments(predictor, pixels, class_index, method, layer, side, patch)
    watched = watch(predictor, pixels, layer, named=True)
    target = target_of(watched, class_index)
    found, covered = find(predictor, watched, target, method, layer, side, patch)
    image, answers = watched.image.detach()[0], answers_of(predictor, target)
    check = None
    if checked:
        other = occlusion.occlude(answers, image, patch) if covered is None else None
        check = occlusion.check(answers, image, found.heat, other)
        covered = covered or other
    return Explanation(
        pixels=pixels,
        method=found.method,
        layer=found.layer,
        predicted=int(watched.logits.argmax()),
        target=target,
        probability=float(watched.logits.detach()[0].softmax(0)[target]),
        values=found.values,
        heat=found.heat,
        drops=covered.pixels() if covered is not None else None,
        check=check,
    )


def class_number(classes: Sequence[str], name: str | int) -> int:
    """Return the number of the class of that name, or of that number. Raises UserError with the nearest name."""
    if name in classes:
        return classes.index(str(name))
    try:
        number = int(name)
    except ValueError:
        raise UserError(f"class: the run has no class {name!r}{nearest(str(name), classes)}") from None
    if not 0 <= number < len(classes):
        raise UserError(f"class: expected a name, or a number from 0 to {len(classes) - 1}, got {name}")
    return number


def check_arguments(
    predictor: Predictor,
    pixels: Tensor,
    class_index: int | None,
    method: str,
    layer: str | None,
    side: int | None,
    patch: int | None,
) -> None:
    """Raise UserError for arguments that no image, class or network goes with."""
    size, channels = predictor.metadata["image_size"], predictor.metadata["in_channels"]
    if pixels.dtype != torch.uint8 or pixels.shape != (channels, size, size):
        got = f"{str(pixels.dtype).removeprefix('torch.')} {list(pixels.shape)}"
        raise UserError(f"pixels: expected uint8 [{channels}, {size}, {size}], as Predictor.pixels makes, got {got}")
    if class_index is not None and not 0 <= class_index < len(predictor.classes):
        raise UserError(f"class: expected 0 to {len(predictor.classes) - 1}, got {class_index}")
    if method not in get_args(Method):
        raise UserError(f"method: expected one of {', '.join(get_args(Method))}, got {method!r}")
    if method in ("rollout", "occlusion") and (layer is not None or side is not None):
        raise UserError(f"{'layer' if side is None else 'side'}: {method} has none; this is for method gradcam")
    if layer is not None and side is not None:
        raise UserError("side: the layer is given, and with it the size of its map; give one of the two")
    modules = [name for name, _ in predictor.model.named_modules() if name]
    if layer is not None and layer not in modules:
        raise UserError(f"layer: the network has no module {layer!r}{nearest(layer, modules)}")
    if side is not None and not SMALLEST_SIDE <= side <= size:
        raise UserError(f"side: expected {SMALLEST_SIDE} to {size} pixels, got {side}")
    if patch is not None and not 1 <= patch < size:
        raise UserError(f"patch: expected 1 to {size - 1} pixels, got {patch}")


def watch(predictor: Predictor, pixels: Tensor, layer: str | None, *, named: bool) -> Pass:
    """Return a pass of the unfolded network; its modules are listened to only where names or a layer are asked for.

    Raises UserError where the answer is not finite.
    """
    with torch.inference_mode(False), torch.enable_grad():
        image = predictor.normalised(pixels.clone())[None].contiguous(memory_format=torch.channels_last)
        image.requires_grad_()
        with Watch(predictor.model if named or layer else None, layer) as seen:
            logits = predictor.model(image)
    if not bool(logits.detach().isfinite().all()):
        raise UserError("the network's answer to this image is not finite: there is nothing to explain")
    return Pass(image, logits, seen)


def target_of(watched: Pass, class_index: int | None) -> int:
    return int(watched.logits.argmax()) if class_index is None else class_index


def answers_of(predictor: Predictor, target: int) -> Answers:
    """Return images [N,C,S,S], normalised -> the probability [N] of the class, by the folded network."""

    def answers(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = predictor.network(images.contiguous(memory_format=torch.channels_last))
            return logits.softmax(1)[:, target].clone()

    return answers


def find(
    predictor: Predictor,
    watched: Pass,
    target: int,
    method: Method,
    layer: str | None,
    side: int | None,
    patch: int | None,
) -> tuple[Found, Occlusion | None]:
    """Return what the method finds, and for occlusion how it found it."""
    size = watched.image.shape[3]
    chosen: Map | None = None
    if layer is None and method in ("auto", "gradcam"):
        chosen = map_of(watched, side)
    if method == "auto":
        method = best_method(watched.seen, chosen, given=layer is not None or side is not None)
    if method == "gradcam":
        where, features = read_layer(watched, layer) if layer is not None else read_map(watched, chosen, side)
        values = grad_cam(features, watched.logits, target, where)
        return Found(method, f"{where}, {in_words(values)}", values, scaled(enlarged(values, size))), None
    if method == "rollout":
        values = of_patches(rollout(usable(watched.seen.attentions)))[0]
        heat = enlarged(values, size)
        layers = f"{len(watched.seen.attentions)} layers of attention, {in_words(values)}"
        return Found(method, layers, values, scaled(heat - heat.min())), None
    covered = occlusion.occlude(answers_of(predictor, target), watched.image.detach()[0], patch)
    heat = scaled(covered.pixels().relu())
    return Found(method, f"squares of {covered.patch} pixels, {in_words(covered.drops)}", covered.drops, heat), covered


def map_of(watched: Pass, side: int | None) -> Map | None:
    """Return the map that Grad-CAM takes by itself, or the one of at least so many pixels a side."""
    sides = (USUAL_SIDE, SMALLEST_SIDE) if side is None else (side,)
    found = (watched.seen.last_map(watched.logits, watched.image, least) for least in sides)
    return next((each for each in found if each is not None), None)


def in_words(values: Tensor) -> str:
    return " x ".join(str(side) for side in values.shape)


def best_method(seen: Watch, chosen: Map | None, *, given: bool) -> Method:
    """Return what "auto" stands for; a `given` layer or side is Grad-CAM's."""
    if given:
        return "gradcam"
    if is_usable(seen.attentions) and (chosen is None or chosen.step < seen.attentions[0].step):
        return "rollout"
    return "gradcam" if chosen is not None else "occlusion"


def read_map(watched: Pass, chosen: Map | None, side: int | None) -> tuple[str, Tensor]:
    """Return the name of the map that was found, and the map."""
    if chosen is not None:
        return (watched.seen.name_of(chosen) if watched.seen.returned else chosen.function), chosen.tensor
    if side is None or (largest := largest_side(watched)) is None:
        raise UserError("method: gradcam needs a map that all of the image goes through, and this network has none")
    raise UserError(f"side: the largest map that all of the image goes through has {largest} pixels a side, got {side}")


def largest_side(watched: Pass) -> int | None:
    sides = [
        side
        for side in range(SMALLEST_SIDE, watched.image.shape[3] + 1)
        if watched.seen.last_map(watched.logits, watched.image, side) is not None
    ]
    return max(sides, default=None)


def read_layer(watched: Pass, layer: str) -> tuple[str, Tensor]:
    """Return a module's name and what it returned last. Raises UserError unless that is a square map, or tokens."""
    outputs = [returned.tensor for returned in watched.seen.returned if returned.module == layer]
    if not outputs:
        raise UserError(f"layer: {layer} returns no map when the network answers: it is not run, or returns no tensor")
    try:
        channels_first(outputs[-1])
    except ValueError:
        shape = list(outputs[-1].shape)[1:]
        raise UserError(f"layer: {layer} returns {shape}; expected a square map of 2x2 pixels or more") from None
    return layer, outputs[-1]


def grad_cam(features: Tensor, logits: Tensor, target: int, where: str) -> Tensor:
    """Return the map [h,w] of what raises the logit: ReLU(sum over channels of weight x map), section 3.

    The weight of a channel is the mean of the logit's gradient over it. Raises UserError where the logit does not
    depend on the map.
    """
    with torch.inference_mode(False), torch.enable_grad():
        [gradient] = torch.autograd.grad(logits[0, target], [features], allow_unused=True)
    if gradient is None:
        raise UserError(f"layer: the answer does not depend on what {where} returns")
    maps, gradients = channels_first(features.detach())[0], channels_first(gradient)[0]
    return torch.einsum("c,chw->hw", gradients.mean((1, 2)), maps).relu()


def is_usable(attentions: Sequence[Attention]) -> bool:
    """Return whether all attentions are over the same tokens."""
    shapes = {None if attention.weights is None else attention.weights.shape for attention in attentions}
    return len(shapes) == 1 and None not in shapes


def usable(attentions: Sequence[Attention]) -> list[Tensor]:
    """Return the weights of attentions over the same tokens. Raises UserError where they are not."""
    if not attentions:
        raise UserError("method: rollout needs attention, and this network has none; use gradcam or occlusion")
    if not is_usable(attentions):
        raise UserError("method: rollout needs attention of all tokens to all in every layer; use occlusion")
    return [attention.weights for attention in attentions if attention.weights is not None]


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """Return how much of each token lies in each token at the end, [N,T,T], rows summing to one; section 3.

    A layer passes on half of what it is given beside half of what it attends to.
    """
    total = torch.eye(attentions[0].shape[1]).expand_as(attentions[0])
    for weights in attentions:
        mixed = (weights + torch.eye(weights.shape[1])) / 2
        total = mixed / mixed.sum(2, keepdim=True) @ total
    return total


def of_patches(total: Tensor) -> Tensor:
    """Return the part [N,s,s] of each patch in the first token, a class token; of s*s tokens alone, in their mean."""
    tokens = total.shape[1]
    side = isqrt(tokens)
    read = total[:, 0] if tokens > side**2 else total.mean(1)
    patches: Tensor = read[:, tokens - side**2 :]
    return patches.reshape(-1, side, side)


def enlarged(values: Tensor, size: int) -> Tensor:
    """Return a map [h,w] at the image's size, [S,S]."""
    return F.interpolate(values[None, None], (size, size), mode="bilinear", align_corners=False)[0, 0]


def scaled(heat: Tensor) -> Tensor:
    """Return heat of 0 and more with a maximum of 1, unless it is 0 everywhere."""
    return heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)
