"""Files of rows: named by machine, added to, never another machine's."""

from pathlib import Path

import pytest
import torch

from pictorch.bench import ledger
from pictorch.config import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("hardware", "name"),
    [
        ("AMD EPYC, 2 cores", "epyc2"),
        ("AMD EPYC 9654 96-Core Processor, 192 cores", "epyc-9654-192"),
        ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz, 8 cores", "xeon-platinum-8488c8"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
    ],
)
def test_names_of_hardware(hardware: str, name: str) -> None:
    assert ledger.short(hardware) == name


def row(**others: object) -> dict[str, object]:
    return {"name": "a", "against": "b", "batch_size": 8, "ratio": 2.5, "hardware": ledger.hardware(CPU), **others}


def test_rows_are_added_below_the_command_and_are_then_measured(tmp_path: Path) -> None:
    file = ledger.path(tmp_path / "new", "step", CPU, "bf16")
    assert file.name.startswith("speed-step-")
    assert file.name.endswith(f"-torch{torch.__version__.partition('+')[0]}-bf16.csv")
    assert ledger.measured(file, CPU) == set()
    ledger.append(file, row(), command="pictorch bench step")
    ledger.append(file, row(name="c", ratio=None), command="another")
    assert file.read_text().splitlines()[:2] == ["# pictorch bench step", "name,against,batch_size,ratio,hardware"]
    assert ledger.measured(file, CPU) == {("a", "b", "8"), ("c", "b", "8")}
    assert ledger.key(row(batch_size=16)) not in ledger.measured(file, CPU)


def test_the_file_of_another_machine_or_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "speed.csv"
    ledger.append(file, row(hardware="Abacus, 10 beads"), command="x")
    before = file.read_bytes()
    with pytest.raises(
        UserError, match=r"measured on Abacus, 10 beads, this is .*; nothing is added to it: --write to"
    ):
        ledger.measured(file, CPU)
    with pytest.raises(UserError, match="its columns are not those of this version; nothing was added"):
        ledger.append(file, row(more=1), command="x")
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--write: .*/file/speed.csv: Not a directory"):
        ledger.append(tmp_path / "file" / "speed.csv", row(), command="x")
