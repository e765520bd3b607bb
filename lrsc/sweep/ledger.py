"""What a sweep knows of its runs: how each was found, what this process holds, who is told."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import xarray as xr

from lrsc import results
from lrsc.config import RunConfig
from lrsc.experiments.status import is_done
from lrsc.results import locks
from lrsc.training import distributed

_log = logging.getLogger(__name__)
OnResult = Callable[[int, int, xr.Dataset], None]


class Ledger:
    """The runs of a sweep in their order, and the locks of those that are under way.

    asked: name -> probes whose curves a result must hold to count as done. found: name -> how the
    run was found, 'trained', 'before' or 'elsewhere' (another process is at it). on_result is
    called with (number, of, result).
    """

    def __init__(
        self, root: Path, asked: dict[str, tuple[str, ...]], on_result: OnResult | None = None
    ) -> None:
        self.root, self.asked, self.on_result = root, asked, on_result
        self.found: dict[str, str] = {}
        self.held: dict[str, contextlib.ExitStack] = {}

    def claim(self, name: str, config: RunConfig) -> bool:
        """Whether this process is to see to a run: nobody is at it, and it is not done."""
        claim = contextlib.ExitStack()
        if not claim.enter_context(_claim(name, self.root, config)):
            self.found[name] = "elsewhere"
        elif done(name, self.root, self.asked[name]):  # by now
            self.found[name] = "before"
            claim.close()
        else:
            self.held[name] = claim
        return name in self.held

    def release(self, name: str, kind: str) -> None:
        """A run needs nothing more here."""
        self.found[name] = kind
        self.held.pop(name, contextlib.ExitStack()).close()

    def tell(self, name: str, summary: str, found: xr.Dataset | None = None) -> None:
        """A run is done: in a line of the log, and to whoever wants its result."""
        number, of = list(self.asked).index(name) + 1, len(self.asked)
        _log.info("run %d of %d: %s", number, of, summary)
        if self.on_result is not None:
            path = results.run_path(name, self.root)
            self.on_result(number, of, results.load(path) if found is None else found)

    def close(self) -> None:
        """Give back what is held."""
        for claim in self.held.values():
            claim.close()


def done(name: str, root: Path, probes: Iterable[str]) -> bool:
    """`is_done` as the first process of a run sees it: it alone sets damaged files aside."""
    return distributed.first_says(distributed.rank() == 0 and is_done(name, root, probes))


@contextlib.contextmanager
def _claim(name: str, root: Path, config: RunConfig) -> Iterator[bool]:
    """`locks.claim`; of the processes of one run (torchrun) the first holds it for all."""
    first = distributed.rank() == 0
    with locks.claim(name, root, config) if first else contextlib.nullcontext() as mine:
        yield distributed.first_says(mine)
