"""Weights of the same network from elsewhere: torchvision's and timm's state dictionaries, loaded into ours.

    model = create("resnet50", image_size=224, num_classes=1000)
    load(model, torchvision.models.resnet50(weights="DEFAULT").state_dict())

Implementations of one paper name their layers differently but list them in the order of the forward pass, and so do
ours: the key map is that order, checked tensor by tensor. That the outputs then agree to 1e-5 is tested against both
packages for ResNet, ResNeXt, DenseNet, VGG, GoogLeNet, MobileNetV2, ShuffleNetV2, ViT and Xception.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from pictorch.config import UserError


def in_order(model: nn.Module, state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Return (our key, key of `state`) by the order of the layers, as far as both go.

    The counters of batches that norms have seen are left out, as old files lack them.
    """
    ours, theirs = counted(model.state_dict()), counted(state)
    if "encoder.pos_embedding" in theirs:  # torchvision's ViT has it behind the patches' convolution
        theirs.insert(1, theirs.pop(theirs.index("encoder.pos_embedding")))
    return list(zip(ours, theirs, strict=False))


def counted(state: Mapping[str, Tensor]) -> list[str]:
    return [key for key in state if not key.endswith("num_batches_tracked")]


def key_map(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {our key: key of `state`} for all of the network's parameters and running statistics, in order.

    Raises UserError naming the first tensor that the other network does not have in this place.
    """
    own = model.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in own.items()}
    pairs = in_order(model, state)
    for our, their in pairs:
        if shapes[our] != tuple(state[their].shape):
            raise UserError(
                f"these weights are of another network: {their} has shape {tuple(state[their].shape)} "
                f"where {our} has {shapes[our]}"
            )
    if not len(counted(own)) == len(counted(state)) == len(pairs):
        raise UserError(
            f"these weights are of another network: {len(counted(state))} tensors, ours has {len(counted(own))}"
        )
    return dict(pairs)


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put the weights of another implementation of the same network into `model`. Raises UserError for others' weights.

    To fine-tune on other classes, build the network with the weights' own number of classes, load, and give it a new
    last layer with `reset_classifier`.
    """
    model.load_state_dict({our: state[their] for our, their in key_map(model, state).items()}, strict=False)
