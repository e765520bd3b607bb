"""One file that holds a run at a moment, from which it goes on bit for bit (on the CPU)."""

import contextlib
import functools
import hashlib
import signal
import threading
import time
import types
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lrsc import __version__, files
from lrsc.datasets import Split
from lrsc.errors import TimeLimit
from lrsc.training import distributed

# steps between two agreements of several processes: on a GPU the host waits for it then
AGREE_EVERY = {"cpu": 1, "cuda": 8}
TIME_IS_OVER = -1  # in the place of a signal
WHOLE = 2**29  # bytes of samples of which a digest is taken whole
PLAIN = (int, float, str, bytes, bool, type(None))
CALLABLE = (types.FunctionType, types.BuiltinFunctionType, functools.partial)
LEAST_SHARE = 50  # times as long as the last one took, at least, pass between two checkpoints


class Refused(ValueError):
    """A checkpoint that is damaged or belongs to another run; the text shows the difference."""


def identity(**run: Any) -> dict[str, str]:
    """What a checkpoint must agree on with the run that resumes from it: code and run."""
    code = {"lrsc": f"{__version__}, code {_code()}", "torch": torch.__version__}
    return {name: str(value) for name, value in (code | run).items()}


def digest(tensors: Iterable[Tensor]) -> str:
    """16 hex digits that tell the contents of some tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def digest_of(split: Split | None) -> str:
    """Of a split's samples, labels and constants; of more than WHOLE bytes every so many samples.

    Of images on disk the first and last.
    """
    if split is None:
        return "none"
    x = split.x
    rows = [x[:: 1 + x.nbytes // WHOLE]] if isinstance(x, Tensor) else [x[:8], x[-8:]]
    others = (split.y, split.bias, split.mean, split.std)
    return f"{len(split)}, digest {digest([*rows, *(t for t in others if t is not None)])}"


def code_of(value: Any) -> str:
    """Name of a user's function or object, and a digest of its code and plain values."""
    name = getattr(value, "__qualname__", type(value).__name__)
    return f"{name}, code {hashlib.sha256(repr(_told(value)).encode()).hexdigest()[:16]}"


VERSIONED = ("torch", "lrsc")  # whose versions are told


def _told(value: Any) -> Any:
    """Code, and what it holds that is plain and the same in another process."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, tuple):
        return [_told(v) for v in value]
    if isinstance(value, types.CodeType):
        return value.co_code.hex(), value.co_names, _told(value.co_consts)
    if isinstance(value, functools.partial):
        return _told((value.func, value.args, *value.keywords.items()))
    if isinstance(value, types.FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if c != types.CellType()]
        held = [c.__code__ if isinstance(c, types.FunctionType) else c for c in cells]
        defaults = value.__defaults__, *(value.__kwdefaults__ or {}).items()
        return value.__qualname__, _told((value.__code__, defaults, *held))
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    own = [k for k in type(value).__mro__ if k.__module__.partition(".")[0] not in VERSIONED]
    functions = [f for kind in own for f in vars(kind).values()]
    plain = [
        (name, v) for name, v in getattr(value, "__dict__", {}).items()
        if name[0] != "_" and name != "training" and isinstance(v, (*PLAIN, *CALLABLE))
    ]  # fmt: skip
    code = (f for f in functions if isinstance(f, types.FunctionType))
    return type(value).__qualname__, _told((*code, *plain))


@functools.cache
def _code() -> str:
    """Digest of the code that a training depends on."""
    root = Path(__file__).parents[1]
    single = [root / f"{name}.py" for name in ("config", "losses", "optimizers", "schedules")]
    folders = [
        path for name in ("datasets", "models", "training") for path in (root / name).rglob("*.py")
    ]
    found = hashlib.sha256()
    for path in sorted(single + folders):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def save(path: Path, made_by: dict[str, str], state: dict) -> None:
    """Write the state of a run, atomically."""
    files.save({"made_by": made_by, "state": state}, path)


def load(path: Path, expected: dict[str, str]) -> dict | None:
    """The state in a file, or None if there is none; only plain data and tensors are read.

    Raises Refused, with what to do, for a file that is damaged or of another run or code; OSError
    for one that cannot be opened.
    """
    if not path.exists():
        return None
    advice = f"Move or delete it to start over, or resume with what wrote it: {path}"
    try:
        found = files.load(path)
    except ValueError as error:
        raise Refused(f"the checkpoint {error}. {advice}") from error
    try:
        made_by, state = dict(found["made_by"]), dict(found["state"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        text = f"the checkpoint cannot be read: it is no checkpoint ({error!r}). {advice}"
        raise Refused(text) from error
    differences = [
        f"{name}: checkpoint {_near(made_by, expected, name)}, now {_near(expected, made_by, name)}"
        for name in dict.fromkeys([*made_by, *expected])
        if made_by.get(name) != expected.get(name)
    ]
    if differences:
        raise Refused(
            "\n  ".join(["the checkpoint is of another run:", *differences]) + f"\n{advice}"
        )
    return state


def _near(one: dict[str, str], other: dict[str, str], name: str) -> str:
    """The value in one, of a long one what is near the first difference from the other's."""
    text, against = one.get(name, "nothing"), other.get(name, "nothing")
    if len(text) <= 100:
        return text
    pairs = enumerate(zip(text, against, strict=False))
    common = next((i for i, (a, b) in pairs if a != b), min(len(text), len(against)))
    start = max(0, common - 40)
    return ("..." if start else "") + text[start : common + 60] + "..."


class Asked:
    """The signal that asked the process to end, where one did while it was `listening`."""

    signal: int | None = None
    at_once = False

    @contextlib.contextmanager
    def nothing_to_keep(self, so: bool = True) -> Iterator[None]:
        """Inside, if so, a signal ends a single process at once: all checkpoints are whole."""
        self.at_once = so and distributed.world() == 1
        try:
            if self.at_once:
                self.stop()
            yield
        finally:
            self.at_once = False

    def stop(self) -> None:
        """End the process as the signal would have, if one has come."""
        asked = next((s for s in distributed.everyones(self.signal) if s is not None), None)
        if asked == signal.SIGINT:
            raise KeyboardInterrupt
        if asked == TIME_IS_OVER:
            raise TimeLimit(
                "stopped at its time limit; the checkpoint is kept: the same call goes on from it"
            )
        if asked is not None:
            raise SystemExit(128 + asked)


@contextlib.contextmanager
def listening(wanted: bool, seconds: float | None = None) -> Iterator[Asked]:
    """Inside, if wanted, SIGTERM and Ctrl-C wait until someone calls `stop`; at the latest the end.

    Not where there is `nothing_to_keep`, as while finished runs are measured.
    After so many seconds `stop` raises TimeLimit. In a thread other than the main one signals stay
    as they are.
    """
    asked = Asked()
    with contextlib.ExitStack() as opened:
        if seconds is not None:
            timer = threading.Timer(seconds, lambda: setattr(asked, "signal", TIME_IS_OVER))
            timer.daemon = True
            timer.start()
            opened.callback(timer.cancel)
        opened.enter_context(_signals(wanted, asked))
        yield asked


@contextlib.contextmanager
def _signals(wanted: bool, asked: Asked) -> Iterator[None]:
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame) -> None:
        asked.signal = number
        if asked.at_once:
            asked.stop()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
        asked.stop()  # asked after the last step: the finished runs are kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class Keeper:
    """Writes a run's checkpoint when it is time to; nothing where it has no path.

    Never so often that writing takes more than 2 % of the time. Several processes agree every few
    steps, and the first one writes.
    """

    def __init__(self, run: Any, path: Path | None, asked: Asked) -> None:
        # no cycle: a run that has ended is freed at once, with what it holds on the device
        self.run, self.path, self.asked = weakref.proxy(run), path, asked
        self.seconds, self.steps = run.job.checkpoint_seconds, run.job.checkpoint_steps
        self.beside = 1  # runs that are trained at the same time, and written one after the other
        self.took = 0.0
        self.last = time.monotonic()
        self.every, self.agreed = AGREE_EVERY[run.job.device.type], (-1, False)
        self.made_by = run.identity() if path else {}

    def resume(self) -> None:
        """Take the run on from its file, if there is one."""
        if self.path is None:
            return
        state = load(self.path, self.made_by)
        places = distributed.everyones(None if state is None else state["done"])
        if len(set(places)) > 1:
            raise Refused(
                f"the processes find different checkpoints at {self.path}, after {places} steps: "
                "give a folder that all of them share"
            )
        if state is not None:
            self.run.resume(state)

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after this many steps."""
        if self.path is None:
            return False
        planned = self.steps is not None and step % self.steps == 0
        if planned or distributed.world() == 1:
            return planned or self._wanted()
        if self.agreed[0] != step:
            together = step % self.every == 0 and any(distributed.everyones(self._wanted()))
            self.agreed = (step, together)
        return self.agreed[1]

    def _wanted(self) -> bool:
        if self.asked.signal is not None:
            return True
        if self.seconds is None:
            return False
        passed = time.monotonic() - self.last
        return passed >= self.seconds and passed >= LEAST_SHARE * self.took * self.beside

    def save(self) -> None:
        """Write now."""
        if self.path is None:
            return
        started = time.monotonic()
        state = self.run.state()
        if distributed.rank() == 0:
            save(self.path, self.made_by, state)
        self.last = time.monotonic()
        self.took = self.last - started
