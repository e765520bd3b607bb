"""Random draws of a run, apart from those of other runs and of whoever calls.

Torch's layers draw their weights and their dropout from the process's generators, which all
threads share. A run keeps states of its own, and puts them in for as long as it draws, one run at
a time. Handing generators to operations instead would leave out what sets and reads the process's
state: `torch.manual_seed` in a model's constructor, activation checkpointing, `fork_rng`.
"""

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

State = tuple[Tensor, Tensor | None]
_lock = threading.RLock()  # of the process's generators


class Draws:
    """States of torch's generators for the CPU and a GPU, as `torch.manual_seed(seed)` sets them.

    drawn: whether anything was drawn inside. Threads that are not ours are not kept away from the
    process's generators.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device, self.drawn, self.times, self.depth = device, False, 0, 0
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start over."""
        cpu, cuda = (
            torch.Generator(d).manual_seed(seed).get_state() if d.type == kind else None
            for d, kind in ((torch.device("cpu"), "cpu"), (self.device, "cuda"))
        )
        assert cpu is not None
        self.set_state((cpu, cuda))

    def state(self) -> State:
        """As they are now."""
        return self._of_process() if self.depth else self.kept

    def is_in(self, state: State) -> bool:
        """Whether nothing was drawn since they were in this state."""
        return _equal(self.state(), state)

    def set_state(self, state: State) -> None:
        """Go on from a state."""
        self.kept = state
        if self.depth:
            self._put(state)

    @contextlib.contextmanager
    def inside(self, wait: bool = True) -> Iterator[None]:
        """Inside, the process's generators are in these states, and afterwards as they were.

        Other runs wait; without wait nothing happens while another one draws.
        """
        if not _lock.acquire(blocking=wait):
            yield
            return
        try:
            before, start = self._of_process(), self.kept
            self._put(start)
            self.depth += 1
            try:
                yield
            finally:
                self.depth -= 1
                self.kept = self._of_process()
                self.drawn |= not _equal(start, self.kept)
                self.times += 1
                self._put(before)
        finally:
            _lock.release()

    def _of_process(self) -> State:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return torch.get_rng_state(), cuda

    def _put(self, state: State) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self.device)


def _equal(one: State, other: State) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is b or torch.equal(a, b) for a, b in pairs if a is not None and b is not None)
