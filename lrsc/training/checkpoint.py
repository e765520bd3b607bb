"""One file that holds a run at a moment, from which it goes on bit for bit (on the CPU)."""

import contextlib
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lrsc import __version__
from lrsc.results import atomic
from lrsc.training import distributed

FORMAT = 1
AGREE_STEPS = 16  # steps between two agreements of several processes


class Refused(ValueError):
    """A checkpoint that is damaged or belongs to another run; the text shows the difference."""


def identity(**run: Any) -> dict[str, str]:
    """What a checkpoint must agree on with the run that resumes from it: code and run."""
    code = {"checkpoint format": FORMAT, "lrsc": __version__, "torch": torch.__version__}
    return {name: str(value) for name, value in (code | run).items()}


def save(path: Path, made_by: dict[str, str], state: dict) -> None:
    """Write the state of a run, atomically."""
    with atomic(path) as part:
        torch.save({"made_by": made_by, "state": state}, part)


def load(path: Path, expected: dict[str, str]) -> dict | None:
    """The state in a file, or None if there is none; only plain data and tensors are read.

    Raises Refused, with what to do, for a file that is damaged or of another run or code.
    """
    if not path.exists():
        return None
    advice = f"Move or delete it to start over, or resume with what wrote it: {path}"
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        made_by, state = found["made_by"], found["state"]
    except (RuntimeError, EOFError, KeyError, TypeError, OSError, pickle.UnpicklingError) as error:
        text = str(error).partition("\n")[0]
        raise Refused(f"the checkpoint cannot be read ({text}). {advice}") from error
    differences = [
        f"{name}: checkpoint {made_by.get(name, 'nothing')}, now {expected.get(name, 'nothing')}"
        for name in dict.fromkeys([*made_by, *expected])
        if made_by.get(name) != expected.get(name)
    ]
    if differences:
        raise Refused(
            "\n  ".join(["the checkpoint is of another run:", *differences]) + f"\n{advice}"
        )
    return state


class Keeper:
    """Writes a run's checkpoint when it is time to, and ends the process when it is asked to.

    Several processes agree every AGREE_STEPS steps, and the first one writes.
    """

    def __init__(self, run: Any, path: Path, seconds: float | None, steps: int | None) -> None:
        self.run, self.path, self.seconds, self.steps = run, path, seconds, steps
        self.made_by = run.identity()
        self.signal: int | None = None
        self.last, self.agreed = time.monotonic(), (-1, False)

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after this many steps."""
        wanted = (
            self.signal is not None
            or (self.seconds is not None and time.monotonic() - self.last >= self.seconds)
            or (self.steps is not None and step % self.steps == 0)
        )
        if distributed.world() == 1:
            return wanted
        if self.agreed[0] != step:
            together = step % AGREE_STEPS == 0 and any(distributed.everyones(wanted))
            self.agreed = (step, together)
        return self.agreed[1]

    def write(self, step: int) -> None:
        """Write if it is due, and end the process if it was asked to."""
        if not self.due(step):
            return
        self.save()
        self.stop()

    def stop(self) -> None:
        """End the process as the signal would have, if one has come."""
        asked = next((s for s in distributed.everyones(self.signal) if s is not None), None)
        if asked == signal.SIGINT:
            raise KeyboardInterrupt
        if asked is not None:
            raise SystemExit(128 + asked)

    def save(self) -> None:
        """Write now."""
        state = self.run.state()
        if distributed.rank() == 0:
            save(self.path, self.made_by, state)
        self.last = time.monotonic()


class _Nothing(Keeper):
    """Keeps nothing: a run without checkpoints."""

    def __init__(self) -> None:
        pass

    def due(self, step: int) -> bool:
        return False

    def save(self) -> None:
        pass


@contextlib.contextmanager
def keeper(
    run: Any, path: Path | None, seconds: float | None, steps: int | None
) -> Iterator[Keeper]:
    """Resume the run from its file, if there is one, and yield what writes it.

    Inside, SIGTERM and Ctrl-C wait for the end of a step; in a thread other than the main one
    signals stay as they are.
    """
    if path is None:
        yield _Nothing()
        return
    found = Keeper(run, path, seconds, steps)
    state = load(path, found.made_by)
    if state is not None:
        run.resume(state)
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def note(number: int, frame) -> None:
        found.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield found
        found.stop()  # asked after the last step: the finished run is kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
