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


def key_map(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {our key: key of `state`} for all of the network's parameters and running statistics, in order.

    The counters of batches that norms have seen are left out, as old files lack them. Raises UserError naming the
    first tensor that the other network does not have in this place.
    """
    ours = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    theirs = [key for key in state if not key.endswith("num_batches_tracked")]
    if "encoder.pos_embedding" in theirs:  # torchvision's ViT has it behind the patches' convolution
        theirs.insert(1, theirs.pop(theirs.index("encoder.pos_embedding")))
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    for our, their in zip(ours, theirs, strict=False):
        if shapes[our] != tuple(state[their].shape):
            raise UserError(
                f"these weights are of another network: {their} has shape {tuple(state[their].shape)} "
                f"where {our} has {shapes[our]}"
            )
    if len(ours) != len(theirs):
        raise UserError(f"these weights are of another network: {len(theirs)} tensors, ours has {len(ours)}")
    return dict(zip(ours, theirs, strict=True))


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put the weights of another implementation of the same network into `model`. Raises UserError for others' weights.

    To fine-tune on other classes, build the network with the weights' own number of classes, load, and give it a new
    last layer with `reset_classifier`.
    """
    model.load_state_dict({our: state[their] for our, their in key_map(model, state).items()}, strict=False)
