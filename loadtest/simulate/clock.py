"""Simulated time: runs scheduled actions in order."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

Action = Callable[[Any], None]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0  # actions run so far
        self._due: list[tuple[float, int, Action, Any]] = []
        # Actions due at the same time run in the order in which they were scheduled.
        self._number = count().__next__

    def after(self, seconds: float, action: Action, argument: Any = None) -> None:
        heappush(self._due, (self.now + seconds, self._number(), action, argument))

    def at(self, time: float, action: Action, argument: Any = None) -> None:
        heappush(self._due, (time, self._number(), action, argument))

    def every(self, seconds: float, action: Callable[[], None], first: float = 0.0) -> None:
        def again(_: None) -> None:
            action()
            self.after(seconds, again)

        self.at(first, again)

    def run(self, until: float) -> None:
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, action, argument = heappop(due)
            self.events += 1
            action(argument)
        self.now = until
