"""Profiles: work is counted by formulas that hold, groups take in what they should, words follow from numbers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from pictorch.bench import cifar, profile
from pictorch.bench.curves import training
from pictorch.engine.precision import choose

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cifar.images(tmp_path_factory.mktemp("nothing"), per_file=100) as images:
        yield images.root


def test_traffic_is_each_tensor_read_and_written_once() -> None:
    images, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    with profile.Traffic() as traffic:
        F.conv2d(images, weight, padding=1)
    assert traffic.bytes == 4 * (images.numel() + weight.numel() + 2 * 4 * 8 * 8)
    with profile.Traffic() as traffic:
        images.add_(1.0)
        images.view(6, 64).t()
    assert traffic.bytes == 4 * 2 * images.numel()
    with profile.Traffic() as traffic:
        images.index_select(0, torch.tensor([1]))
    assert traffic.bytes == 4 * 2 * 3 * 64


def test_work_of_a_step_is_three_forward_passes(root: Path) -> None:
    """Of a network without groups, torch's counter counts the same but for the first layer, which needs no gradient of
    images; bytes are at least those of the maps, which grow with the batch."""
    job = profile.create_job("resnet_preact_20", 4, root, CPU)
    step = training(job)
    with FlopCounterMode(display=False) as counter:
        step()
    assert 6 * 4 * job.complexity.macs == pytest.approx(counter.get_total_flops(), rel=0.02)
    few, many = (profile.bytes_of_step(profile.create_job("resnet_preact_20", n, root, CPU)) for n in (2, 4))
    assert 1.5 < many / few < 2


@pytest.mark.parametrize(
    ("group", "operations"),
    {
        "convolution": (
            "aten::mkldnn_convolution",
            "aten::convolution_backward",
            "aten::addmm",
            "aten::mm",
            "aten::bmm",
        ),
        "norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward", "aten::cudnn_batch_norm"),
        "activation": ("aten::relu_", "aten::clamp_min_", "aten::threshold_backward", "aten::hardtanh_backward"),
        "update": ("aten::_fused_sgd_", "aten::_foreach_lerp_"),
        "copy": ("aten::copy_", "aten::cat", "aten::constant_pad_nd", "aten::index_select", "aten::_to_copy"),
        "add": ("aten::add_", "aten::mul", "aten::sum", "aten::mean"),
        "other": ("aten::sort", "autograd::engine::evaluate_function"),
    }.items(),
    ids=str,
)
def test_operations_are_in_their_groups(group: str, operations: tuple[str, ...]) -> None:
    assert {profile.group_of(operation) for operation in operations} == {group}


def test_a_profile_s_row_is_whole_and_its_words_follow_from_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(profile.MATRIX, "cpu", 128)  # type: ignore[index]
    monkeypatch.setitem(profile.COPIED_BYTES, "cpu", 2**20)  # type: ignore[index]
    (row,) = profile.measure(root, CPU, {"resnet_preact_20": 8, "resnet18": 8}, done={"resnet18"})
    assert (row["network"], row["batch_size"], row["dtype"]) == ("resnet_preact_20", 8, choose("auto", CPU).name)
    percents = {key: value for key, value in row.items() if key.endswith("_percent")}
    assert sum(percents.values()) == pytest.approx(100, abs=2)
    assert percents["convolution_percent"] > 10
    assert percents["norm_percent"] > 1
    assert float(row["gflop_per_second"]) == pytest.approx(1000 * float(row["gflop"]) / float(row["step_ms"]), rel=0.01)

    def words(convolution: float, norm: float, overhead: float) -> str:
        shares = dict.fromkeys((key for key in percents), "0")
        shares |= {
            "convolution_percent": f"{convolution}",
            "norm_percent": f"{norm}",
            "overhead_percent": f"{overhead}",
        }
        return profile.verdict({**shares, "gflop_per_second": "20", "matmul_gflop_per_second": "100"})

    assert words(50, 30, 20).startswith("convolutions and matrix products: 50% of the time, in which they reach 40% of")
    assert words(20, 70, 10).startswith("passes over memory: 70% of the time (norms 70%, activations 0%")
    assert words(20, 10, 70).startswith("overhead: in 70% of the time no operation runs")
