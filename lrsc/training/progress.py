"""One progress display for all runs of a call."""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrsc.training import distributed
from lrsc.training.run import Run

EVERY = 0.5  # seconds between two updates


class Progress:
    """Runs that are trained now, done and diverged, images a second, and the time left.

    of: number of runs; images: samples that all are expected to see, of which the time left is an
    estimate, and an upper bound where they are the runs' caps (`bound`); steps: those expected of a
    run by its request's name, where it is not the cap. Shown on stderr where that is a terminal and
    show is set. Lanes may call it at the same time.
    """

    def __init__(
        self, of: int, images: float, bound: bool, show: bool = True,
        clock: Callable[[], float] = time.monotonic, steps: Mapping[Any, float] | None = None,
    ) -> None:  # fmt: skip
        self.steps = steps or {}
        self.of, self.expected, self.bound, self.clock = of, images, bound, clock
        self.running = self.done = self.diverged = self.images = 0
        self.began = self.shown = clock()
        self.lock = threading.Lock()
        self.bar = None
        if show and sys.stderr.isatty() and not distributed.rank():
            from tqdm import tqdm

            self.bar = tqdm(total=1.0, bar_format="{desc} |{bar}|", leave=False)

    def started(self, run: Run) -> None:
        """One more run is trained."""
        with self.lock:
            self.running += 1
            self.expected -= run.done * run.job.batch  # of an earlier process

    def step(self, images: int) -> None:
        """A step with so many samples, of all its runs, is done."""
        with self.lock:
            self.images += images
            now = self.clock()
            if now - self.shown >= EVERY:
                self.shown = now
                self._show()

    def ended(self, runs: Sequence[Run]) -> None:
        """Runs have ended: what they did not need is not to be waited for."""
        with self.lock:
            self.running -= len(runs)
            self.done += len(runs)
            self.diverged += sum(run.status == "diverged" for run in runs)
            for run in runs:
                steps = min(self.steps.get(run.request.name, run.total), run.total)
                self.expected -= (steps - run.done) * run.job.batch
            self._show()

    def left_out(self) -> None:
        """A run is not to be trained here after all."""
        with self.lock:
            self.of -= 1

    def back(self, runs: int) -> None:
        """Runs have left their places and wait again."""
        with self.lock:
            self.running = max(0, self.running - runs)

    def close(self) -> None:
        """Take the display away."""
        if self.bar is not None:
            self.bar.close()

    @property
    def share(self) -> float:
        """How much of the expected images is done; where nothing is expected, of the runs."""
        if self.expected > 0:
            return min(1.0, self.images / self.expected)
        return self.done / max(self.of, 1)

    @property
    def text(self) -> str:
        """What the display says."""
        seconds = max(self.clock() - self.began, 1e-9)
        rate = self.images / seconds
        parts = [f"{self.running} running, {self.done} of {self.of} done"]
        if self.diverged:
            parts.append(f"{self.diverged} diverged")
        parts.append(f"{rate:,.0f} images/s")
        if rate and self.done < self.of:
            left = max(self.expected - self.images, 0) / rate
            parts.append(f"{'at most' if self.bound else 'about'} {duration(left)} left")
        return ", ".join(parts)

    def _show(self) -> None:
        if self.bar is not None:
            self.bar.n = self.share
            self.bar.set_description_str(self.text, refresh=True)


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
