"""Runs that wait for a place in a lane."""

import collections
import threading
from collections.abc import Iterable, Sequence

from lrsc.training.run import Request


class Queue:
    """Runs that wait for a place, shared by the lanes.

    A lane that finds nothing waits for runs of one without memory, until all lanes wait.
    """

    def __init__(self, requests: Iterable[Request], lanes: int) -> None:
        self.requests, self.lanes = iter(requests), lanes
        self.handed: collections.deque[Request] = collections.deque()
        self.condition = threading.Condition()
        self.waiting, self.closed = 0, False

    def take(self, room: int, wait: bool) -> list[Request]:
        """Up to `room` runs; if there are none and wait, those that come, else an empty list."""
        with self.condition:
            found = self._some(room)
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

    def hand_over(self, runs: Sequence[Request]) -> None:
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

    def close(self) -> None:
        """Nothing is given out any more."""
        with self.condition:
            self._close()

    def _close(self) -> None:
        self.closed = True
        self.condition.notify_all()

    def _some(self, room: int) -> list[Request]:
        found: list[Request] = []
        while len(found) < room and not self.closed:
            if self.handed:
                found.append(self.handed.popleft())
            elif (request := next(self.requests, None)) is not None:
                found.append(request)
            else:
                break
        return found
