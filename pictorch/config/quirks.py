"""The quirks: where the programs behind the seed documents' numbers differ from the papers, each with its switch.

    as_published=seed1              while a configuration is loaded, all that apply to it, of that document's program

A quirk is data: the keys that it sets, and the configurations to which it applies. Everything else is as the papers
have it. docs/quirks.md is this table.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pictorch.config.errors import UserError, nearest
from pictorch.config.keywords import show
from pictorch.config.schema import Config, Document

# As the value of a key: the document itself.
ITSELF = "seedN"
RESIDUAL = ("resnet", "resnet_preact", "se_resnet", "se_resnet_preact")
FAMILIES = (
    *RESIDUAL,
    *("wrn", "densenet", "pyramidnet", "resnext", "shake_shake", "vgg", "googlenet", "xception", "vit"),
    *("mobilenet_v1", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "resnet9", "airbench"),
)
NAME = re.compile(rf"(?:wide_)?({'|'.join(sorted(FAMILIES, key=len, reverse=True))})(?![a-z])")
# Of layout "cifar", the depths that the named variants have with bottleneck units, and beyond which those of layout
# "imagenet" do.
BOTTLENECK_DEPTHS = (164, 200, 236, 272, 1001)
FIRST_BOTTLENECK = 50


class Network(NamedTuple):
    """What the conditions ask of a network: its family ("" where it is somebody else's) and the kind of it."""

    family: str
    imagenet: bool
    bottleneck: bool
    options: dict[str, Any]


def network(config: Config) -> Network:
    """Return the kind of the configured network, by its name and options alone: no network is built for it."""
    name, options = config.model.name, config.model.options
    match = NAME.match(name)
    if match is None or ":" in name:
        return Network("", False, False, options)
    family, variant = match[1], name[match.end() :]
    numbers = re.findall(r"\d+", variant)
    depth = options.get("depth") or (int(numbers[0]) if numbers else 0)
    imagenet = options.get("layout", "imagenet" if variant[:1].isdigit() else "cifar") == "imagenet"
    units = options.get("block_type")
    if units is None and family == "densenet":
        units = "bottleneck" if imagenet or "bc" in variant else "basic"
    elif units is None:
        deep = depth >= FIRST_BOTTLENECK if imagenet else bool(variant) and depth in BOTTLENECK_DEPTHS
        units = "bottleneck" if deep else "basic"
    return Network(family, imagenet, units == "bottleneck", options)


@dataclass(frozen=True)
class Quirk:
    """A deviation of a document's program: what it does, what the paper or sound practice does, and the keys for it.

    `apart` says why `as_published` leaves it alone, where it does: it is not behind the document's own numbers.
    """

    name: str
    documents: tuple[Document, ...]
    program: str
    paper: str
    effect: str
    keys: dict[str, Any]
    when: str
    applies: Callable[[Config], bool]
    source: str
    apart: str = ""

    def settings(self, document: str) -> dict[str, Any]:
        """Return {key: value} of what it sets, for one of its documents."""
        return {key: document if value == ITSELF else value for key, value in self.keys.items()}

    @property
    def switches(self) -> list[str]:
        """What to type for it, a line for each document whose line is another."""
        lines = [" ".join(map(typed, self.settings(document).items())) for document in self.documents]
        return list(dict.fromkeys(lines))


def typed(setting: tuple[str, Any]) -> str:
    """Return key=value as one types it in a shell."""
    key, value = setting
    return shlex.quote(f"{key}={value if isinstance(value, str) else show(value).replace(chr(39), chr(34))}")


def of_document(document: str, config: Config) -> Iterator[Quirk]:
    """Yield the quirks that `as_published` of this document turns on for this configuration."""
    for quirk in QUIRKS:
        if document in quirk.documents and not quirk.apart and quirk.applies(config):
            yield quirk


def find(pattern: str, document: Document | None = None) -> list[Quirk]:
    """Return the quirks of these names (with * and ?), of one document if told.

    Raises UserError with the nearest names, or those with such a word in them, where there are none.
    """
    ours = {quirk.name: quirk for quirk in QUIRKS if document is None or document in quirk.documents}
    found = [quirk for name, quirk in ours.items() if fnmatchcase(name, pattern)]
    if not found:
        words = {word for name in ours for word in name.split("_")}
        close = get_close_matches(pattern, ours) or get_close_matches(pattern, words, n=1)
        near = [name for name in ours if name in close or set(close) & set(name.split("_"))]
        of = f" of {document}" if document else ""
        raise UserError(f"no quirk{of} is called {pattern!r}{nearest(pattern, ours) if not near else told(near)}")
    return found


def told(names: list[str]) -> str:
    return "; did you mean " + " or ".join(map(repr, names)) + "?"


def family(*names: str, **kind: bool) -> Callable[[Config], bool]:
    """Return the condition that the network is of one of these families, and of this kind of it."""

    def applies(config: Config) -> bool:
        ours = network(config)
        return ours.family in names and all(getattr(ours, key) == value for key, value in kind.items())

    return applies


def augmented(*names: str) -> Callable[[Config], bool]:
    """Return the condition that one of these augmentations is on."""
    return lambda config: any(getattr(config.augment, name) for name in names)


def data(name: str) -> Callable[[Config], bool]:
    """Return the condition that the images are this set's."""
    return lambda config: config.data.name == name


def option_on(condition: Callable[[Config], bool], name: str) -> Callable[[Config], bool]:
    """Return the condition, and that an option of the network is neither null nor 0."""
    return lambda config: condition(config) and bool(config.model.options.get(name))


V1 = "github.com/hysts/pytorch_image_classification at da2bdcf (2018)"
NEWEST = "github.com/hysts/pytorch_image_classification at 993089a (2021)"
THIRD = "the program of seed document 3"
EARLIER = "document 2's numbers were made before, by a program without it"
OWN_NETWORK = {"model.as_published": ITSELF}

NETWORKS = (
    Quirk(
        "projection_shortcuts",
        ("seed1", "seed2"),
        "Where the width changes, the shortcut of basic units is a 1x1 convolution (shortcut B).",
        "Zeros are appended, without parameters (shortcut A; arXiv:1512.03385, section 4.2; Torch's CIFAR default).",
        "ResNet-110 has 1,730,714 parameters, not 1,727,962.",
        {"model.shortcut": "B"},
        "residual networks of basic units with three stages",
        family(*RESIDUAL, imagenet=False, bottleneck=False),
        V1,
    ),
    Quirk(
        "narrow_first_stage",
        ("seed1", "seed2"),
        "Bottleneck units of the first stage are not expanded: 16 channels put out, 4 inside.",
        "64 put out, 16 inside (arXiv:1603.05027; resnet-pre-act.lua).",
        "ResNet-preact-164 has 1,619,290 parameters, not 1,703,258; likely a part of 5.90% against the paper's 5.46%.",
        OWN_NETWORK,
        "residual networks of bottleneck units",
        family(*RESIDUAL, bottleneck=True),
        f"{V1}; {NEWEST}: models/imagenet/resnet.py, resnet_preact.py",
    ),
    Quirk(
        "norm_after_stem",
        ("seed2",),
        "Behind the ImageNet stem's pooling the first unit has a BN-ReLU of its own.",
        "The stem ends in BN-ReLU and pooling, and the first unit begins with its convolution (preresnet.lua).",
        "128 more parameters.",
        OWN_NETWORK,
        "pre-activation networks with four stages",
        family("resnet_preact", "se_resnet_preact", imagenet=True),
        f"{NEWEST}: models/imagenet/resnet_preact.py",
    ),
    Quirk(
        "vgg_missing_relus",
        ("seed1",),
        "Only the first convolution of each stage is followed by a ReLU: the later ones replace it under its name.",
        "A ReLU follows every convolution (arXiv:1409.1556).",
        "5 ReLUs in a network of 13 convolutions.",
        OWN_NETWORK,
        "VGG",
        family("vgg"),
        f"{V1}: models/vgg.py",
    ),
    Quirk(
        "vgg_random_norm_weights",
        ("seed1",),
        "The weights of batch norm begin uniform in [0, 1], as Torch7 drew them.",
        "They begin at 1 (arXiv:1502.03167; torch).",
        "Other initial weights; the parameters are as many.",
        OWN_NETWORK,
        "VGG",
        family("vgg"),
        f"{V1}: models/vgg.py",
    ),
    Quirk(
        "vgg_without_hidden_layers",
        ("seed1",),
        "One linear layer on the last map: the document's depth 15 are 14 layers with weights.",
        "Hidden layers of 4,096, or of 512 in cifar.torch (13 convolutions and two linear layers: 15).",
        "14,728,266 parameters, not the 14,991,946 of 15 layers.",
        {"model.head": "linear"},
        "VGG with model.head fc512 or fc4096",
        lambda config: family("vgg")(config) and config.model.options.get("head") not in (None, "linear"),
        f"{V1}: models/vgg.py",
    ),
    Quirk(
        "wrn_early_dropout",
        ("seed1", "seed2"),
        "Dropout stands between a unit's first convolution and its second BN.",
        "It stands behind that BN's ReLU, before the second convolution (arXiv:1605.07146; wide-resnet.lua).",
        "Batch norm takes its statistics of maps with holes; the parameters are as many.",
        OWN_NETWORK,
        "WRN with model.drop_rate above 0",
        option_on(family("wrn"), "drop_rate"),
        f"{V1}; {NEWEST}: models/cifar/wrn.py",
    ),
    Quirk(
        "wrn_constant_norm_weights",
        ("seed2",),
        "The weights of batch norm begin at 1.",
        "They begin uniform in [0, 1]: Torch7's rule, which the authors' PyTorch program repeats.",
        "Other initial weights; the parameters are as many.",
        OWN_NETWORK,
        "WRN",
        family("wrn"),
        NEWEST,
    ),
    Quirk(
        "densenet_wide_stem",
        ("seed1", "seed2"),
        "The stem of plain DenseNets, too, has twice growth_rate channels, as in the authors' code.",
        "16 channels for plain DenseNets: the paper's text and counts (arXiv:1608.06993).",
        "DenseNet-100 (k=12) has 7,083,538 parameters, not 6,979,642; k=24 28,071,706, not 27,249,082.",
        OWN_NETWORK,
        "DenseNets of basic layers with three blocks",
        family("densenet", imagenet=False, bottleneck=False),
        V1,
    ),
    Quirk(
        "densenet_without_last_relu",
        ("seed2",),
        "Nothing but BN stands between the last block and the pooling of ImageNet networks.",
        "BN-ReLU (DenseNet's authors' code).",
        "Features of both signs are averaged; the parameters are as many.",
        OWN_NETWORK,
        "DenseNets with four blocks",
        family("densenet", imagenet=True),
        f"{NEWEST}: models/imagenet/densenet.py",
    ),
    Quirk(
        "pyramidnet_wide_stem",
        ("seed1",),
        "The stem of bottleneck networks has 64 channels.",
        "16 (arXiv:1610.02915; addpyramidnet.lua).",
        "PyramidNet-164 (alpha 270) has 27,218,517 parameters, not 27,216,021.",
        OWN_NETWORK,
        "PyramidNets of bottleneck units",
        family("pyramidnet", bottleneck=True),
        f"{V1}; mended later",
    ),
    Quirk(
        "shake_shake_wide_stem",
        ("seed1",),
        "The stem has base_channels and a ReLU, so that the first stage begins with an identity, and no ReLU comes "
        "before the pooling.",
        "16 channels without ReLU, a projection in the first stage, ReLU before the pooling (arXiv:1705.07485; "
        "shakeshake.lua).",
        "26 2x32d has 2,932,266 parameters, not 2,923,162; 2x64d 11,709,514, not 11,653,978.",
        OWN_NETWORK,
        "shake-shake",
        family("shake_shake"),
        f"{V1}; mended on 2020-04-18 by 10892f7",
    ),
    Quirk(
        "shake_shake_skip_shift",
        ("seed1", "seed2"),
        "A skip's second path sees the pixels 1, 3, 5 ... 31.",
        "It sees -1 (zero), 1, 3 ... 29 (shakeshake.lua).",
        "Other values; the parameters are as many.",
        OWN_NETWORK,
        "shake-shake",
        family("shake_shake"),
        f"{V1}; {NEWEST}",
    ),
    Quirk(
        "he_normal_head",
        ("seed2",),
        "Linear layers are drawn like convolutions, the last one with a deviation of sqrt(2 / classes); biases of "
        "convolutions stay torch's.",
        "Uniform in +-1/sqrt(in_features), biases 0.",
        "ResNet-20 begins with a cross-entropy of 4 to 10 on 10 classes, not 2.5.",
        {"model.init": "fan_out_all"},
        "convolutional networks; WRN with fan_in_all",
        family(*RESIDUAL, "densenet", "pyramidnet", "resnext", "shake_shake", "vgg"),
        NEWEST,
        apart=EARLIER,
    ),
    Quirk(
        "fan_in_init",
        ("seed3",),
        "Convolutions are drawn by the channels that they read (Kaiming fan_in).",
        "By the channels that they put out, as in the authors' Torch code.",
        "Other initial weights; the parameters are as many.",
        {"model.init": "fan_in"},
        "ResNet",
        family("resnet"),
        THIRD,
    ),
    Quirk(
        "vgg_wide_init",
        ("seed3",),
        "All weights begin normal with a deviation of 0.1; convolutions have no biases.",
        "He normal, with biases.",
        "VGG-16 has 33,642,442 parameters, not 33,646,666; weights of hidden layers begin 4 to 11 times as large.",
        OWN_NETWORK,
        "VGG",
        family("vgg"),
        THIRD,
    ),
    Quirk(
        "convolution_biases",
        ("seed3",),
        "All convolutions have biases, which the batch norm behind them takes away again.",
        "Convolutions before a batch norm have none.",
        "ResNeXt-50 has 23,026,826 parameters, not 22,992,714; MobileNetV1 3,228,170, not 3,217,226.",
        OWN_NETWORK,
        "ResNeXt, MobileNetV1 and Xception",
        family("resnext", "mobilenet_v1", "xception"),
        THIRD,
    ),
    Quirk(
        "strided_stem",
        ("seed3",),
        "MobileNets halve 32x32 images in their first convolution, as they do images of 224, and five times in all.",
        "A network for 32x32 images leaves the first strides out.",
        "A last map of one pixel; probably most of what the document's figures lack.",
        {"model.stem": "imagenet"},
        "MobileNetV1 and V2",
        family("mobilenet_v1", "mobilenet_v2"),
        THIRD,
    ),
    Quirk(
        "xception_strided_stem",
        ("seed3",),
        "A padded stem of stride 2 and five halvings in all on 32x32 images; no BN in the shortcuts, nor behind the "
        "last two convolutions.",
        "A network for 32x32 images leaves strides out; BN follows every convolution (arXiv:1610.02357).",
        "20,866,314 parameters, and a last map of one pixel.",
        OWN_NETWORK,
        "Xception",
        family("xception"),
        THIRD,
    ),
    Quirk(
        "mobilenet_v2_first_expansion",
        ("seed3",),
        "The first unit, of expansion 1, has an expanding 1x1 convolution with BN, too; the last layer has no bias.",
        "It has none (arXiv:1801.04381, table 2); the last layer has a bias.",
        "2,237,760 parameters: 1,088 more in the first unit.",
        OWN_NETWORK,
        "MobileNetV2",
        family("mobilenet_v2"),
        THIRD,
    ),
    Quirk(
        "densenet_leading_relu",
        ("seed3",),
        "BN and ReLU come before the first convolution: whatever is darker than the mean is lost; it has a bias.",
        "The network begins with the convolution.",
        "Half of each image's values become 0.",
        OWN_NETWORK,
        "DenseNet",
        family("densenet"),
        THIRD,
    ),
    Quirk(
        "densenet_last_transition",
        ("seed3",),
        "A transition follows the last block, too, and no BN-ReLU before the pooling; transitions have biases.",
        "BN-ReLU and pooling follow the last block (arXiv:1608.06993).",
        "DenseNet-121 has 7,476,944 parameters, not 6,956,298: which is why the document's counts are larger.",
        OWN_NETWORK,
        "DenseNet",
        family("densenet"),
        THIRD,
    ),
    Quirk(
        "googlenet_short_stem",
        ("seed3",),
        "The stem is 3x3 of 64, 3x3 of 192 and a pooling; poolings are padded on both sides, there is no dropout.",
        "A 1x1 convolution of 64 stands between them, dropout 0.4 before the last layer (arXiv:1409.4842).",
        "5,979,178 parameters.",
        OWN_NETWORK,
        "GoogLeNet",
        family("googlenet"),
        THIRD,
    ),
    Quirk(
        "shufflenet_without_shuffle",
        ("seed3",),
        "The channel shuffle is called with one group, which changes nothing, and the 3x3 convolutions have so many "
        "groups as the 1x1.",
        "Channels are shuffled between the groups; the 3x3 convolutions are depthwise (arXiv:1707.01083).",
        "1,974,898 parameters; groups never see each other within a unit.",
        OWN_NETWORK,
        "ShuffleNetV1",
        family("shufflenet_v1"),
        THIRD,
    ),
    Quirk(
        "vit_without_last_norm",
        ("seed3",),
        "No LayerNorm follows the last block; dropout 0.1.",
        "One does (arXiv:2010.11929, section 3.1).",
        "85,150,474 parameters as vit_base.",
        OWN_NETWORK,
        "ViT",
        family("vit"),
        f"{THIRD}: models/vit.py",
    ),
    Quirk(
        "vit_random_tokens",
        ("seed3",),
        "Position embedding and class token begin normal with a deviation of 1.",
        "A deviation of 0.02 and 0: the authors' code.",
        "Other initial weights; positions outweigh patches at first.",
        OWN_NETWORK,
        "ViT",
        family("vit"),
        f"{THIRD}: models/vit.py",
    ),
)

PICTURES = (
    Quirk(
        "fashion_mnist_random_test",
        ("seed1",),
        "Test images are padded by 4 pixels, cropped to 32x32 at random and mirrored at random, as training images.",
        "Test images are 28x28 as they are; the document says nothing else.",
        "Other pixels in every test image. The effect looks small: 5.14% so, 5.04% after it was mended (200 epochs).",
        {"evaluation.crop": {"padding": 4, "mode": "constant", "size": 32}, "evaluation.flip": True},
        "FashionMNIST",
        data("fashion_mnist"),
        f"{V1}: dataloader.py; mended on 2018-12-15 by 1f4153e",
    ),
    Quirk(
        "fashion_mnist_large_crops",
        ("seed1",),
        "Training images are cropped to 32x32, but for runs with Cutout or Random Erasing.",
        "28x28 patches are cropped from images padded by 4: the document's text.",
        "Maps of 32, 16 and 8 pixels instead of 28, 14 and 7.",
        {"augment.crop.size": 32},
        "FashionMNIST with augment.crop, without Cutout and Random Erasing",
        lambda config: (
            data("fashion_mnist")(config)
            and bool(config.augment.crop)
            and not augmented("cutout", "random_erasing")(config)
        ),
        f"{V1}: dataloader.py; mended on 2018-12-15 by 1f4153e",
    ),
    Quirk(
        "mnist_as_it_is",
        ("seed1",),
        "MNIST is neither cropped nor mirrored.",
        "Crops out of the padded image, as the document tells of FashionMNIST.",
        "Every epoch shows the same images.",
        {"augment.crop": None, "augment.flip": False},
        "MNIST",
        data("mnist"),
        V1,
    ),
    Quirk(
        "mnist_crops",
        ("seed2",),
        "MNIST is cropped out of images padded by 4, and not mirrored.",
        "No augmentation in document 1's program.",
        "Digits move by up to 4 pixels.",
        {"augment.crop": {"padding": 4}, "augment.flip": False},
        "MNIST",
        data("mnist"),
        f"{NEWEST}: configs/datasets/mnist.yaml",
    ),
    Quirk(
        "repeated_draws",
        ("seed1",),
        "Nobody seeds NumPy in the 7 loader workers: all of them, and every epoch, draw the same Cutout and Random "
        "Erasing.",
        "Each image of each epoch has its own draws.",
        "A CIFAR-10 run draws 7,168 boxes in all and uses each 7 times an epoch.",
        {"augment.repeat_draws": 7},
        "Cutout or Random Erasing",
        augmented("cutout", "random_erasing"),
        f"{V1}; mended on 2018-12-16 by 4592b0a",
    ),
    Quirk(
        "random_erasing_one_value",
        ("seed1", "seed2"),
        "A box is filled with one value, uniform in [0, 1], after normalising.",
        "Each pixel of it is random (arXiv:1708.04896, section 3.2), or it has the mean (the authors' code).",
        "Boxes are grey and from the mean to a deviation brighter.",
        {"augment.random_erasing.fill": "one"},
        "Random Erasing",
        augmented("random_erasing"),
        f"{NEWEST}: random_erasing.py",
    ),
    Quirk(
        "cutmix_share_uncorrected",
        ("seed2",),
        "The targets' shares stay what was drawn, though the border cuts boxes off; every batch is mixed.",
        "The shares are those of the pixels that are left, and half of the batches are mixed (arXiv:1905.04899).",
        "The drawn share is 0.50 in the mean, 0.68 of the pixels are left.",
        {"augment.cutmix.program": "seed2", "augment.cutmix.prob": 1.0},
        "CutMix",
        augmented("cutmix"),
        f"{NEWEST}: collators/cutmix.py",
    ),
    Quirk(
        "one_loss_only",
        ("seed2",),
        "One of the losses is chosen: with mixup, RICAP or CutMix, label smoothing is dropped without a word.",
        "Both change the targets.",
        "Targets of mixed images are not smoothed.",
        {"augment.label_smoothing": 0.0},
        "label smoothing with mixup, RICAP or CutMix",
        lambda config: config.augment.label_smoothing > 0 and augmented("mixup", "ricap", "cutmix")(config),
        f"{NEWEST}: losses/__init__.py",
    ),
    Quirk(
        "split_drawn_anew",
        ("seed3",),
        "The validation images are drawn anew in each run, whatever their classes.",
        "All runs hold out the same images, in proportion by class.",
        "Two runs differ by their training images, too; a run's validation figure is of its own images.",
        {"data.split_seed": "run", "data.stratified": False},
        "a validation part",
        lambda config: config.data.val_fraction > 0,
        f"{THIRD}: random_split in train.py",
    ),
    *(
        Quirk(
            f"{name}_channel_statistics",
            ("seed3",),
            "Constants per channel are subtracted; their deviations differ from the usual ones in the fourth digit.",
            "The document says per-pixel mean and standard deviation.",
            "Values differ by about a thousandth from those with the usual constants.",
            {"data.normalise": "channel", "data.mean": mean, "data.std": std},
            name.replace("cifar", "CIFAR-"),
            data(name),
            THIRD,
        )
        for name, mean, std in (
            ("cifar10", (0.4914, 0.4822, 0.4465), (0.2467, 0.2432, 0.2612)),
            ("cifar100", (0.507, 0.4865, 0.4409), (0.2669, 0.256, 0.2756)),
        )
    ),
)

UPDATES = (
    Quirk(
        "cosine_from_the_next_step",
        ("seed1",),
        "The rate is set for the position after an update, so that the last update has exactly the lowest rate: 0.",
        "The first update has the full rate, the last nearly the lowest (arXiv:1608.03983, equation 5).",
        "The rates are one update ahead; the last update does nothing but apply momentum.",
        {"schedule.position": "after"},
        "schedule=cosine, per step",
        lambda config: config.schedule.name == "cosine" and config.schedule.per == "step",
        f"{V1}: main.py",
    ),
    Quirk(
        "cosine_floor",
        ("seed2",),
        "The cosine ends at a thousandth of the initial rate; shake-shake's file says 0.",
        "It ends at 0 (arXiv:1608.03983, equation 5, with a lowest rate of 0).",
        "The last update's learning rate is 0.0001 of 0.1, and not 0.",
        {"schedule.final_factor": 0.001},
        "schedule=cosine, but for shake-shake",
        lambda config: config.schedule.name == "cosine" and not family("shake_shake")(config),
        f"{NEWEST}: lr_min_factor in defaults.py",
        apart=EARLIER,
    ),
    Quirk(
        "late_boundaries",
        ("seed2",),
        "A milestone or a restart belongs to what comes before it, and takes effect one update later.",
        "The rate changes at the milestone.",
        "One update of the run has the rate before; at a restart, the lowest.",
        {"schedule.late": True},
        "schedule=multistep or sgdr",
        lambda config: config.schedule.name in ("multistep", "sgdr"),
        f"{NEWEST}: combined_scheduler.py",
        apart=EARLIER,
    ),
    Quirk(
        "decay_by_name",
        ("seed2",),
        "Without decay of norms, only weights with conv.weight in their names are decayed: the stem's, the shortcuts'.",
        "The weights of all layers are decayed, norms and biases are not.",
        "2,992 of the 272,282 parameters of ResNet-preact-20 are decayed.",
        {"optim.decay_only": ("*conv.weight", "*.shortcut.weight")},
        "residual networks with shortcut B and optim.decay_norm_and_bias=false",
        lambda config: family(*RESIDUAL, "wrn")(config) and not config.optim.decay_norm_and_bias,
        f"{NEWEST}: optim/__init__.py",
        apart="what made document 2's numbers decays all but norms, as it says",
    ),
    Quirk(
        "clip_before_division",
        ("seed2",),
        "The gradients of the parts of a batch are added up, clipped, and divided by the number of parts afterwards.",
        "The gradient of the whole batch is clipped.",
        "The norm is clipped to clip_norm / accumulate.",
        {"optim.clip_sum": True},
        "optim.clip_norm with optim.accumulate above 1",
        lambda config: config.optim.clip_norm is not None and config.optim.accumulate > 1,
        f"{NEWEST}: train.py",
    ),
    Quirk(
        "lars_full_trust",
        ("seed2",),
        "A layer's factor is its norm of weights over that of its gradients itself, for gains and biases, too, and 1 "
        "below a norm of 0.01.",
        "A thousandth of that (arXiv:1708.03888, section 4).",
        "Steps are a thousand times as long for the same rate.",
        {"optim.trust_coefficient": 1.0, "optim.threshold": 0.01, "optim.scale_vectors": True},
        "optim=lars",
        lambda config: config.optim.name == "lars",
        f"{NEWEST}: optim/lars.py",
    ),
)

TESTS = (
    Quirk(
        "test_in_training_mode",
        ("seed3",),
        "The test never calls eval(): batch norm takes the statistics of each test batch of 128, dropout is on.",
        "Running statistics and no dropout.",
        "An image's answer depends on the images beside it; a candidate cause of the document's low figures.",
        {"evaluation.test_mode": "train", "evaluation.batch_size": 128},
        "always",
        lambda config: True,
        f"{THIRD}: test.py",
    ),
    Quirk(
        "selection_by_batches",
        ("seed3",),
        "The best epoch is the one with the highest mean over batches, of which the last has 8 images.",
        "The share of validation images.",
        "Those 8 of 5,000 images count 16 times as much as others.",
        {"train.select_mean": "batches", "evaluation.batch_size": 128},
        "train.select=best-val",
        lambda config: config.train.select == "best-val",
        f"{THIRD}: train.py",
    ),
)

QUIRKS: tuple[Quirk, ...] = (*NETWORKS, *PICTURES, *UPDATES, *TESTS)

# What a program does that has no switch here -> why not.
NOT_REPRODUCED = {
    "seed2: several processes without set_epoch, so that every epoch has the same order": "a run here is one process, "
    "whose order is a function of the seed and the epoch",
    "seed2: the exponential warm-up is multiplied by the learning rate a second time": "none of the document's numbers "
    "has a warm-up, so that a switch would be for nothing that is published",
    "seed2: np.int in RICAP and add_(scalar, tensor) in LARS": "they stop the program with today's libraries, and "
    "change nothing with those of its time",
    "seed2: evaluate.py compares its output directory with None, and calls predicted classes labels": "they concern "
    "its files, not its figures",
    "seed2: the notebook feeds blue, green, red to a network of red, green, blue": "no figure comes of it",
    "seed2: overlays of data sets and augmentations cannot be combined": "here several files may be laid over another",
    "seed1: configs/se_resnet_preact.json names resnet_preact": "harmless where --arch is given, as in all commands; "
    "model.name says which network it is",
    "seed1: DenseNet's, PyramidNet-164's, ResNeXt-29 16x64d's, FashionMNIST's and MNIST's rows have no command": "what "
    "was not printed cannot be repeated; the recipes say what was taken for it",
    "seed3: GoogLeNet, MobileNetV1 and V2, ViT, and the documented command itself stop with an error": "the tables "
    "were made with other code; the networks are built as that code describes them",
}
