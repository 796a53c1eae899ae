"""The engine as a side of a benchmark: a job of `engine.build`, and the loop's own epochs and evaluations."""

from pathlib import Path
from typing import final

import torch

from pictorch.bench.textbook import Scale, Slice
from pictorch.config import Config
from pictorch.data import Split
from pictorch.engine import inputs, loop
from pictorch.engine.build import build
from pictorch.engine.graphs import own_stream
from pictorch.engine.interrupt import Stop
from pictorch.engine.progress import Silent
from pictorch.engine.state import State
from pictorch.metrics import TrainMeter
from pictorch.runs import RunDir


@final
class Ours:
    """The engine's own epoch over as many images as the slice has steps for, without evaluation, and its evaluation.

    `config` has that part of the images as data.fraction, and evaluates never within the epochs measured.
    """

    def __init__(self, config: Config, slice: Slice) -> None:
        self.job = job = build(config)
        self.config, self.device = config, job.device
        assert isinstance(job.dataset.train, Split)
        assert isinstance(job.dataset.test, Split)
        test = job.dataset.test
        batch_size = inputs.EVALUATION_BATCH[job.device.type]
        tested = test.select(torch.arange(min(len(test), slice.evaluation_batches * batch_size)))
        job.test_loader = inputs.evaluation_loader(job.dataset.spec, tested, job.device, job.mean)
        self.steps = len(job.train_loader)
        self.scale = Scale(
            len(job.dataset.train) // config.train.batch_size / self.steps,
            len(test) / len(tested),
        )
        self.warm_up_steps = slice.warm_up_steps
        self.step = loop.create_step(job, loop.compiled(job))
        self.epoch = 0

    def warm_up(self) -> None:
        """Take a few steps; each other part of the engine is then warm, too."""
        most = self.epoch * self.steps + min(self.warm_up_steps, self.steps)
        train = self.config.train.model_copy(update={"max_steps": most})
        self.job.config = self.config.model_copy(update={"train": train})
        self.train()
        self.job.config = self.config

    def train(self) -> None:
        state = State(self.epoch, self.epoch * self.steps, TrainMeter(steps=self.steps, device=self.device))
        with self.job.process_settings(), own_stream(self.device):
            loop.one_epoch(self.job, RunDir(Path()), state, self.step, Stop(), Silent())
        self.epoch += 1

    def evaluate(self) -> None:
        with self.job.process_settings(), own_stream(self.device):
            loop.evaluate_part(self.job, "test", Stop())
