"""One progress display for all runs of a call."""

import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrsc.training import distributed
from lrsc.training.run import Run

EVERY = 0.5  # seconds between two updates
LINES = 30.0  # seconds between two lines, where lines stay as in the log of a job


class Progress:
    """Runs that are trained now and where they stand, done and diverged, and the time left.

    of: number of runs; images: samples that all are expected to see, of which the time left is an
    estimate, and an upper bound where they are the runs' caps (`bound`); steps: those expected of a
    run by its request's name, where it is not the cap. Shown, unless show is False, as a bar on a
    terminal, as one line that is rewritten in a notebook, else as lines on stderr
    (see `display_of`). Lanes may call it at the same time.
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
        self.current: weakref.WeakSet[Run] = weakref.WeakSet()
        self.display = display_of() if show and not distributed.rank() else None

    def started(self, run: Run) -> None:
        """One more run is trained."""
        with self.lock:
            self.running += 1
            self.current.add(run)
            self.expected -= run.done * run.job.batch  # of an earlier process

    def step(self, images: int) -> None:
        """A step with so many samples, of all its runs, is done."""
        with self.lock:
            self.images += images
            now = self.clock()
            if self.display is not None and now - self.shown >= self.display.every:
                self.shown = now
                self._show()

    def ended(self, runs: Sequence[Run]) -> None:
        """Runs have ended: what they did not need is not to be waited for."""
        with self.lock:
            self.running -= len(runs)
            self.done += len(runs)
            self.diverged += sum(run.status == "diverged" for run in runs)
            for run in runs:
                self.current.discard(run)
                steps = min(self.steps.get(run.request.name, run.total), run.total)
                self.expected -= (steps - run.done) * run.job.batch
            if self.display is not None and self.display.every < LINES:
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
        if self.display is not None:
            self.display.close()

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
        parts = [f"{self.running} running{self._where()}, {self.done} of {self.of} done"]
        if self.diverged:
            parts.append(f"{self.diverged} diverged")
        parts.append(f"{rate:,.0f} images/s")
        if rate and self.done < self.of:
            left = max(self.expected - self.images, 0) / rate
            parts.append(f"{'at most' if self.bound else 'about'} {duration(left)} left")
        return ", ".join(parts)

    def _where(self) -> str:
        """Epochs, LRs and training accuracies of the runs that are trained now."""
        runs = list(self.current)
        if not runs:
            return ""
        said = [f"epoch {_span([run.done / run.job.epoch for run in runs], '.1f')}",
                f"LR {_span([run.config.lr for run in runs], 'g')}"]  # fmt: skip
        known = [100 * run.accuracy for run in runs if math.isfinite(run.accuracy)]
        said += [f"accuracy {_span(known, '.1f')} %"] if known else []
        return f" ({', '.join(said)})"

    def _show(self) -> None:
        if self.display is not None:
            self.display.show(self.share, self.text)


class _Bar:
    """A bar on a terminal."""

    every = EVERY

    def __init__(self) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=1.0, bar_format="{desc} |{bar}|", leave=False)

    def show(self, share: float, text: str) -> None:
        self.bar.n = share
        self.bar.set_description_str(text, refresh=True)

    def close(self) -> None:
        self.bar.close()


class _Cell:
    """One line under a notebook's cell, rewritten, and empty at the end."""

    every = EVERY

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, share: float, text: str) -> None:
        from IPython.display import HTML, display

        line = HTML(f"<progress value='{share:.3f}'></progress> {text}")
        if self.handle is None:
            self.handle = display(line, display_id=True)
        else:
            self.handle.update(line)

    def close(self) -> None:
        if self.handle is not None:
            from IPython.display import HTML

            self.handle.update(HTML(""))


class _Lines:
    """A line now and then, as a log keeps them."""

    every = LINES

    def show(self, share: float, text: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {share:.0%}: {text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing is taken away."""


def display_of() -> Any:
    """What fits where this process writes: a bar, a notebook's line, or lines.

    None where LRSC_PROGRESS is 'off', as when the book is made.
    """
    if os.environ.get("LRSC_PROGRESS") == "off" or sys.stderr is None:
        return None
    if sys.stderr.isatty():
        return _Bar()
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return _Cell() if hasattr(shell, "kernel") else _Lines()


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
