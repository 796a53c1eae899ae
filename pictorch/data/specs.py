"""The data sets that are known by name: classes, sizes, statistics, files with their checksums, and whose they are.

A further data set of a format that has a reader is one more entry here.
"""

from dataclasses import dataclass, replace
from typing import Literal

from pictorch.config.errors import UserError, nearest


@dataclass(frozen=True)
class Form:
    """One form a file may have under the data root: relative path, size in bytes, md5; None where not known.

    `urls` are where it can be downloaded, its author's first; what they have in common is the checksum.
    """

    path: str
    size: int | None
    md5: str | None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A file of a data set: the part it belongs to, what it holds, and its forms, the preferred one first."""

    part: Literal["train", "test", "all"]
    holds: Literal["images", "labels", "images and labels"]
    forms: tuple[Form, ...]


@dataclass(frozen=True)
class ImagesSpec:
    """What a network has to know of a set of images.

    `mean` and `std` are per channel, of images in [0, 1]; `statistic` says over what.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistic: str


@dataclass(frozen=True)
class DatasetSpec(ImagesSpec):
    """What is known of a published data set before a file is opened.

    `label_key` is the entry of a CIFAR batch that holds the labels. `shipped` sets lie in the package instead of under
    the data root. `archive` holds the files where they are not downloaded one by one.
    """

    format: Literal["cifar", "idx", "svhn", "digits"]
    files: tuple[File, ...]
    attribution: str
    licence: str
    obtain: str
    label_key: str = "labels"
    archive: Form | None = None
    shipped: bool = False


def find(name: str) -> DatasetSpec:
    """Return the specification of the data set `name`. Raises UserError with the nearest names for another one."""
    if name not in SPECS:
        hint = nearest(name, [*SPECS, "imagenet"])
        raise UserError(f"there is no data set {name!r}{hint}; a folder of your own images is named by its path")
    return SPECS[name]


def idx_files(
    folder: str,
    gz: tuple[tuple[int, str], ...],
    raw_md5s: tuple[str | None, ...],
    mirrors: tuple[str, ...],
) -> tuple[File, ...]:
    """Return the four files of an MNIST-like set: train images and labels, test images and labels.

    The raw form comes first because it needs no decompression, unless only the compressed one can be verified.
    """
    files = []
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    sizes = (16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000)
    for name, size, md5, (gz_size, gz_md5) in zip(names, sizes, raw_md5s, gz, strict=True):
        raw = Form(f"{folder}/{name}-ubyte", size, md5)
        urls = tuple(f"{mirror}/{name}-ubyte.gz" for mirror in mirrors)
        packed = Form(f"{folder}/{name}-ubyte.gz", gz_size, gz_md5, urls)
        files.append(
            File(
                part="train" if name.startswith("train") else "test",
                holds="images" if "images" in name else "labels",
                forms=(raw, packed) if md5 else (packed, raw),
            )
        )
    return tuple(files)


def cifar_files(folder: str, *batches: tuple[str, int | None, str]) -> tuple[File, ...]:
    return tuple(
        File(
            part="test" if name.startswith("test") else "train",
            holds="images and labels",
            forms=(Form(f"{folder}/{name}", size, md5),),
        )
        for name, size, md5 in batches
    )


def cifar_archive(name: str, size: int, md5: str) -> Form:
    mirrors = ("https://www.cs.toronto.edu/~kriz", "https://dataset.bj.bcebos.com/cifar")
    return Form(name, size, md5, tuple(f"{mirror}/{name}" for mirror in mirrors))


def svhn_file(part: Literal["train", "test"], name: str, size: int, md5: str) -> File:
    urls = tuple(f"{scheme}://ufldl.stanford.edu/housenumbers/{name}" for scheme in ("http", "https"))
    return File(part=part, holds="images and labels", forms=(Form(f"SVHN/{name}", size, md5, urls),))


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OVER_PIXELS = "per-channel mean and standard deviation over all pixels of the training images"
DIGITS = tuple("0123456789")
KRIZHEVSKY = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
NO_LICENCE = "none stated by the authors"

CIFAR100 = DatasetSpec(
    name="cifar100",
    title="CIFAR-100, fine labels",
    classes=words(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
        can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
        dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
        lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
        pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
        seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
        tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
        worm
        """
    ),
    in_channels=3,
    image_size=32,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    statistic=OVER_PIXELS,
    format="cifar",
    files=cifar_files(
        "cifar-100-python",
        ("train", 155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
        ("test", None, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    ),
    attribution=KRIZHEVSKY,
    licence=NO_LICENCE,
    obtain="Unpack cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html under the data root",
    label_key="fine_labels",
    archive=cifar_archive("cifar-100-python.tar.gz", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85"),
)

# Nobody here had SVHN's files: the checksums are torchvision's, the sizes the server's, and mean and standard deviation
# the constants that are in general use, of the training part without the extra images.
SVHN = DatasetSpec(
    name="svhn",
    title="Street View House Numbers, cropped digits",
    classes=DIGITS,
    in_channels=3,
    image_size=32,
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    statistic=f"{OVER_PIXELS} without the extra ones, as published",
    format="svhn",
    files=(
        svhn_file("train", "train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
        svhn_file("test", "test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
    ),
    attribution=(
        "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng, Reading Digits in Natural Images with "
        "Unsupervised Feature Learning, 2011, http://ufldl.stanford.edu/housenumbers"
    ),
    licence="for non-commercial use (https://huggingface.co/datasets/ufldl-stanford/svhn)",
    obtain="Put the .mat files of http://ufldl.stanford.edu/housenumbers there",
)

ALL = (
    DatasetSpec(
        name="digits",
        title="Optical Recognition of Handwritten Digits: the 1,797 scans of 8x8 of its test part",
        classes=DIGITS,
        in_channels=1,
        image_size=8,
        mean=(0.3052,),
        std=(0.3760,),
        statistic=f"{OVER_PIXELS}, scaled to 0..255",
        format="digits",
        files=(
            File(
                part="all",
                holds="images and labels",
                forms=(Form("digits.npz", 44_656, "c45d36e7b9e88e0f05f5e58103c6b69a"),),
            ),
        ),
        attribution=(
            "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
            "UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49"
        ),
        licence="CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
        obtain="The file is part of the package: reinstall pictorch",
        shipped=True,
    ),
    DatasetSpec(
        name="cifar10",
        title="CIFAR-10",
        classes=words("airplane automobile bird cat deer dog frog horse ship truck"),
        in_channels=3,
        image_size=32,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        statistic=OVER_PIXELS,
        format="cifar",
        files=cifar_files(
            "cifar-10-batches-py",
            ("data_batch_1", 31_035_704, "c99cafc152244af753f735de768cd75f"),
            ("data_batch_2", 31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
            ("data_batch_3", 31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
            ("data_batch_4", 31_035_696, "634d18415352ddfa80567beed471001a"),
            ("data_batch_5", 31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
            ("test_batch", 31_035_526, "40351d587109b95175f43aff81a1287e"),
        ),
        attribution=KRIZHEVSKY,
        licence=NO_LICENCE,
        obtain="Unpack cifar-10-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html under the data root",
        archive=cifar_archive("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),
    ),
    CIFAR100,
    replace(
        CIFAR100,
        name="cifar100_coarse",
        title="CIFAR-100, its 20 coarse labels",
        classes=words(
            """
            aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
            household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
            large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
            vehicles_1 vehicles_2
            """
        ),
        label_key="coarse_labels",
    ),
    DatasetSpec(
        name="mnist",
        title="MNIST",
        classes=DIGITS,
        in_channels=1,
        image_size=28,
        mean=(0.1307,),
        std=(0.3081,),
        statistic=OVER_PIXELS,
        format="idx",
        files=idx_files(
            "MNIST/raw",
            gz=(
                (9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                (28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
                (1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
                (4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
            ),
            raw_md5s=(
                "6bbc9ace898e44ae57da46a324031adb",
                "a25bea736e30d166cdddb491f175f624",
                "2646ac647ad5339dbf082846283269ea",
                "27ae3e4e09519cfbb04c329615203637",
            ),
            mirrors=(
                "https://ossci-datasets.s3.amazonaws.com/mnist",
                "https://storage.googleapis.com/cvdf-datasets/mnist",
                "https://dataset.bj.bcebos.com/mnist",
            ),
        ),
        attribution="Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST Database of Handwritten Digits, 1998",
        licence=NO_LICENCE,
        obtain="Put the files of https://ossci-datasets.s3.amazonaws.com/mnist/ there, compressed or not",
    ),
    DatasetSpec(
        name="fashion_mnist",
        title="Fashion-MNIST",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        in_channels=1,
        image_size=28,
        mean=(0.2860,),
        std=(0.3530,),
        statistic=OVER_PIXELS,
        format="idx",
        files=idx_files(
            "FashionMNIST/raw",
            gz=(
                (26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                (29_515, "25c81989df183df01b3e8a0aad5dffbe"),
                (4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
                (5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
            ),
            raw_md5s=(
                "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "9018921c3c673c538a1fc5bad174d6f9",
                "8181f5470baa50b63fa0f6fddb340f0a",
                "15d484375f8d13e6eb1aabb0c3f46965",
            ),
            mirrors=(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
                "https://dataset.bj.bcebos.com/fashion_mnist",
            ),
        ),
        attribution="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
        licence="MIT, Copyright (c) 2017 Zalando SE",
        obtain="Put the files of https://github.com/zalandoresearch/fashion-mnist there, compressed or not",
    ),
    # Its md5s are torchvision's and its statistics those of the program of seed document 1; the files themselves were
    # not at hand to recompute them. The tests do so for every other set where its official files are.
    DatasetSpec(
        name="kmnist",
        title="Kuzushiji-MNIST",
        classes=words("o ki su tsu na ha ma ya re wo"),
        in_channels=1,
        image_size=28,
        mean=(0.1904,),
        std=(0.3475,),
        statistic=OVER_PIXELS,
        format="idx",
        files=idx_files(
            "KMNIST/raw",
            gz=(
                (18_165_135, "bdb82020997e1d708af4cf47b453dcf7"),
                (29_497, "e144d726b3acfaa3e44228e80efcd344"),
                (3_041_136, "5c965bf0a639b31b8f53240b1b52f4d7"),
                (5_120, "7320c461ea6c1c855c0b718fb2a4b134"),
            ),
            raw_md5s=(None, None, None, None),
            mirrors=(
                "https://codh.rois.ac.jp/kmnist/dataset/kmnist",
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
            ),
        ),
        attribution=(
            "KMNIST Dataset (created by CODH), adapted from Kuzushiji Dataset (created by NIJL and others), "
            "https://doi.org/10.20676/00000341"
        ),
        licence="CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/",
        obtain="Put the .gz files of https://codh.rois.ac.jp/kmnist there",
    ),
    SVHN,
    replace(
        SVHN,
        name="svhn_extra",
        title="Street View House Numbers, cropped digits, training on the 531,131 extra images, too",
        files=(
            SVHN.files[0],
            svhn_file("train", "extra_32x32.mat", 1_329_278_602, "a93ce644f1a588dc4d68dda5feec44a7"),
            SVHN.files[1],
        ),
    ),
)
SPECS = {spec.name: spec for spec in ALL}
