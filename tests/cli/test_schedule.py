"""The schedule of a run that is not run."""

from pathlib import Path

import pytest
from conftest import small_config

from pictorch.cli.schedule import rates, show_schedule
from pictorch.config import UserError
from pictorch.engine.build import Job, build


def job(*overrides: str) -> Job:
    return build(small_config("schedule.warmup_epochs=0", "optim.lr=0.5", *overrides))


def test_there_is_a_rate_for_every_update_or_epoch() -> None:
    assert rates(job("schedule=constant")) == [(step / 11, 0.5) for step in range(33)]
    by_epoch = dict(rates(job("schedule=linear", "schedule.per=epoch")))
    assert by_epoch == pytest.approx({0: 0.5, 1: 1 / 3, 2: 1 / 6})
    assert len(rates(job("schedule=constant", "train.max_steps=5"))) == 5


def test_it_is_described_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    show_schedule(job("schedule={name: multistep, milestones_epochs: [2]}"), plot=False)
    assert capsys.readouterr().out.splitlines() == [
        "",
        f"learning rate {'█' * 22}{'▂' * 11}",
        "  from epoch 0      0.5",
        "  from epoch 2      0.05",
    ]
    assert list(Path().iterdir()) == []
    show_schedule(job(), plot=True)
    assert capsys.readouterr().out.splitlines()[-1] == "drawn in schedule.png"
    assert Path("schedule.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_said() -> None:
    Path("schedule.png").mkdir()
    with pytest.raises(UserError, match=r"schedule.png: cannot write the picture here: Is a directory"):
        show_schedule(job(), plot=True)
