"""The published numbers: that they are all there, as printed, and what each of them is a claim about."""

import hashlib
from collections import Counter

import pytest

from pictorch.config import UserError, load, recipes
from pictorch.experiments import published

# Printed numbers do not change: another digest is a correction, which says in its commit what was misread.
DIGEST = "424eac26927d98069ff27a41bb4bddbd960d5af880e8da805a2d719b3c74f992"
TABLES = {
    "seed1": {
        "cifar10_papers": 22,
        "cifar10_cutout": 2,
        "fashion_mnist": 10,
        "fashion_mnist_median": 13,
        "mnist": 17,
        "residual_units": 10,
    },
    "seed2": {
        "cifar10_papers": 2,
        "linear_scaling_cosine": 10,
        "linear_scaling_multistep": 10,
        **{f"initial_lr_{b}": n for b, n in zip((4096, 2048, 1024, 512), (3, 5, 7, 4), strict=True)},
        **{f"initial_lr_{b}": n for b, n in zip((256, 128, 64, 32), (5, 7, 4, 4), strict=True)},
        **{f"longer_{epochs}": n for epochs, n in zip((200, 800, 1600, 3200, 6400), (10, 10, 6, 3, 1), strict=True)},
    },
    "seed3": {"cifar10": 19, "cifar100": 19},
}


def test_the_file_is_as_it_was_read_off() -> None:
    assert hashlib.sha256(published.path().read_bytes()).hexdigest() == DIGEST


def test_every_row_of_every_table_is_there() -> None:
    lines = {(number.document, number.table, number.id.rsplit("/", 1)[0]) for number in published.rows()}
    counted = Counter((document, table) for document, table, _ in lines)
    assert counted == {(document, table): n for document, tables in TABLES.items() for table, n in tables.items()}
    assert {document: sum(tables.values()) for document, tables in TABLES.items()} == {
        "seed1": 74,
        "seed2": 91,
        "seed3": 38,
    }
    kinds = Counter((number.source, number.metric) for number in published.rows())
    assert kinds == {
        ("document", "test_error"): 165,
        ("document", "top1"): 38,
        ("document", "top5"): 19,
        ("paper", "test_error"): 26,
    }
    assert len({number.id for number in published.rows()}) == len(published.rows())


@pytest.mark.parametrize(
    ("id", "value", "spread", "statistic", "n", "training_time", "params"),
    [
        ("seed1/cifar10_papers/resnet_110/document", 6.52, None, "median of 3", 3, "3h06m", ""),
        ("seed1/cifar10_papers/resnet_110/paper", 6.43, None, "best", None, "", ""),
        ("seed1/cifar10_papers/resnet_110/paper_mean", 6.61, 0.16, "mean", None, "", ""),
        ("seed1/cifar10_papers/resnet_preact_1001/document", None, None, "median of 3", None, "", ""),
        ("seed1/cifar10_papers/shake_shake_26_2x96d/document", 2.90, None, "1 run", 1, "101h32m*", ""),
        ("seed1/cifar10_papers/shake_shake_26_2x96d/paper", 2.86, None, "mean of 5", 5, "", ""),
        ("seed1/cifar10_papers/resnext_29_4x64d/paper", 3.75, None, "read from a figure", None, "", ""),
        ("seed1/fashion_mnist_median/resnet_preact_20_mixup_600/document", 4.81, None, "1 run", 1, "3h03m", ""),
        ("seed1/mnist/resnet_preact_50_w4_cutout_12/document", 0.29, None, "1 run", 1, "1h40m", ""),
        ("seed1/residual_units/wo_relu_w_bn_mixup/document", 5.11, None, "median of 5", 5, "191 min", ""),
        ("seed2/linear_scaling_multistep/4096_3.2/document", 28.97, None, "1 run", 1, "22m", ""),
        ("seed2/longer_6400/2048_1.6/document", 7.45, None, "1 run", 1, "11h44m", ""),
        ("seed3/cifar10/vgg19_bn/top1", 92.88, None, "not stated", None, "", "39M"),
        ("seed3/cifar100/densenet264/top5", 90.01, None, "not stated", None, "", "34M"),
    ],
)
def test_numbers(
    id: str,
    value: float | None,
    spread: float | None,
    statistic: str,
    n: int | None,
    training_time: str,
    params: str,
) -> None:
    number = published.find(id)
    assert (number.value, number.spread, number.statistic, number.n) == (value, spread, statistic, n)
    assert (number.training_time, number.params) == (training_time, params)


def test_the_documents_commands_belong_to_their_rows() -> None:
    commands = Counter(number.document for number in published.rows() if number.command)
    assert commands == {"seed1": 25, "seed2": 2, "seed3": 1}
    assert published.find("seed2/cifar10_papers/resnet_preact_110/document").command == (
        "python train.py --config configs/cifar/resnet_preact.yaml "
        "train.output_dir experiments/resnet_preact_basic_110/exp00"
    )
    assert {number.source for number in published.rows() if number.command} == {"document"}


@pytest.mark.parametrize(
    ("id", "caveat"),
    [
        ("seed1/cifar10_cutout/shake_shake_26_2x64d_cutout/document", "the table says 1800 epochs, the command 300"),
        ("seed1/residual_units/wo_relu_w_bn_mixup/document", "the row says 300 epochs, the command has no --epochs"),
        ("seed1/cifar10_papers/wrn_28_10/document", "the notes say batch size 64"),
        ("seed1/cifar10_papers/densenet_100_12/document", "* of the training time: on that different computer"),
        ("seed1/fashion_mnist/resnet_preact_50_cutout_14/document", "test images, too, were cropped"),
        ("seed2/linear_scaling_cosine/8_0.006125/document", "the linear rule gives 0.00625"),
        ("seed2/linear_scaling_cosine/2048_1.6/document", "the same setting is printed with 8.73 in another table"),
        ("seed2/linear_scaling_multistep/128_0.1/document", "milestones for 200 epochs are not stated"),
        ("seed3/cifar10/resnet18/top1", "the document's program does not run as it stands"),
    ],
)
def test_what_is_known_against_a_number_stands_beside_it(id: str, caveat: str) -> None:
    assert caveat in published.find(id).caveats


def test_every_number_is_a_claim_about_a_configuration() -> None:
    """Of its data and length; a document's own of the document's program, a paper's as the paper has it."""
    for number in published.rows():
        config = load(number.recipe, number.overrides).config
        document = number.document if number.source == "document" else None
        assert (config.data.name, config.train.epochs, config.as_published) == (number.dataset, number.epochs, document)
        folder = number.recipe.split("/")[0]
        assert (folder == number.document) == (number.source == "document"), number.id
    used = {number.recipe for number in published.rows()}
    assert {name for name in recipes.names() if name.startswith("seed")} <= used


def test_an_unknown_id_has_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"no published number 'seed3/cifar10/resnet5/top1'; did you mean 'seed3/cifar10"
    ):
        published.find("seed3/cifar10/resnet5/top1")
    with pytest.raises(UserError, match=r"no published number 'vgg19'; known: seed3/cifar10/vgg19_bn/top1, seed3/cif"):
        published.find("vgg19")
