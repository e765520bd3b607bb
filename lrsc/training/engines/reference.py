"""The reference engine: one run, one step after the other, as simply as it can be written.

Every other engine is tested against it, and it takes what they do not: images that stream from
disk, augmentation, noise, any optimiser, several processes. It never waits for the device inside
an epoch: each step only copies its logits into a buffer.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lrsc import optimizers, schedules
from lrsc.datasets.images import batches
from lrsc.training import distributed, evaluation, step
from lrsc.training.run import Job, Run


class Reference:
    """One run at a time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.steps: dict[Run, step.Step] = {}
        self.open = contextlib.ExitStack()

    def advance(
        self, runs: Sequence[Run], n: int, due: Callable[[int], bool]
    ) -> tuple[Tensor, Tensor]:
        """At most n steps of the run; fewer if due(steps done) says so after one of them.

        Returns the logits before each update (steps x 1 x batch x K) and the samples they are of.
        """
        (run,) = runs
        parts, step = run.parts(n), self._step(run)
        shape = (len(parts), parts.shape[1], self.job.dataset.n_classes)
        logits = torch.empty(shape, dtype=run.dtype, device=self.job.device)
        run.net.train()
        done = 0
        for x in _samples(run, parts):
            number = run.done + done
            lr = schedules.learning_rate(run.config, number, run.total)
            if lr != run.optimizer.param_groups[0]["lr"]:
                optimizers.set_lr(run.optimizer, lr)
            y = self.job.train.y[parts[done]]
            logits[done] = step(self.job.train.inputs(x), y, run.due(number))
            done += 1
            if due(done):
                break
        return logits[:done, None], parts[:done, None]

    def forward(self, runs: Sequence[Run]) -> evaluation.Forward:
        """Logits of the runs' networks in eval mode."""
        return evaluation.forward_all([run.net for run in runs])

    def leave(self, runs: Sequence[Run]) -> None:
        """The runs are trained no more, or not here."""
        for run in runs:
            if self.steps.pop(run, None):
                self.open.close()

    def _step(self, run: Run) -> step.Step:
        if run not in self.steps:
            parallel = self.open.enter_context(distributed.parallel(run.net))
            self.steps[run] = step.step(run.net, parallel, run.optimizer, run.config, run.zeros)
        return self.steps[run]


def _samples(run: Run, parts: Tensor) -> Iterator[Tensor]:
    """Raw samples of each step's indices, augmented where the split says how."""
    train = run.job.train
    found = batches(train.x, parts)
    if train.augment is None:
        yield from found
        return
    generator = torch.Generator()
    for number, x in enumerate(found, run.done):  # so that a resumed run draws the same
        key = run.seed * 0x9E3779B1 + number * 0x85EBCA6B + distributed.rank() * 0xC2B2AE35
        generator.manual_seed(key & 0x7FFFFFFF)
        given = train.augment(x, generator)
        if not isinstance(given, Tensor) or (given.dtype, len(given)) != (x.dtype, len(x)):
            told = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(
                f"augment must return as many samples of the type that it is given, {len(x)} of "
                f"{x.dtype}, found {len(given) if isinstance(given, Tensor) else 'a'} {told}: what "
                "it returns is scaled and standardised as the samples are"
            )
        yield given
