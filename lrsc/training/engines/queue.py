"""Runs that wait for a place in a lane."""

import collections
import threading
from collections.abc import Iterable, Sequence

from lrsc.training.run import Request, Run


class Queue:
    """Runs that wait for a place, shared by the lanes.

    A lane that finds nothing waits for another to hand over some of its runs, until all lanes wait.
    """

    def __init__(self, requests: Iterable[Request], lanes: int) -> None:
        self.requests, self.lanes = iter(requests), lanes
        self.handed: collections.deque[Request | Run] = collections.deque()
        self.condition = threading.Condition()
        self.waiting, self.closed = 0, False

    def take(self, room: int, wait: bool) -> list[Request | Run]:
        """Up to `room` runs; if there are none and wait, those that come, else an empty list."""
        with self.condition:
            # what is handed over is for the lanes that have nothing
            found = self._some(room, also_handed=wait or not self.waiting)
            if found or not wait:
                return found
            self.waiting += 1
            if self.waiting == self.lanes:
                self._close()
            while not self.closed and not found:
                self.condition.wait()
                found = [] if self.closed else self._some(room)
            self.waiting -= 1
            return found

    def hand_over(self, runs: Sequence[Request | Run]) -> None:
        """Runs for whoever has a place."""
        with self.condition:
            self.handed.extend(runs)
            self.condition.notify_all()

    def retire(self, runs: Sequence[Request]) -> bool:
        """One lane fewer, that leaves its runs to the others; False if there is no other."""
        with self.condition:
            if self.lanes == 1:
                return False
            self.lanes -= 1
            self.handed.extend(runs)
            self.condition.notify_all()
            return True

    @property
    def wanting(self) -> bool:
        """Whether a lane stands idle."""
        return self.waiting > 0 and not self.handed

    def close(self) -> None:
        """Nothing is given out any more."""
        with self.condition:
            self._close()

    def _close(self) -> None:
        self.closed = True
        self.condition.notify_all()

    def _some(self, room: int, also_handed: bool = True) -> list[Request | Run]:
        found: list[Request | Run] = []
        while len(found) < room and not self.closed:
            if self.handed and also_handed:
                found.append(self.handed.popleft())
            elif (request := next(self.requests, None)) is not None:
                found.append(request)
            else:
                break
        return found
