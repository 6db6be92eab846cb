"""Simulated time: what is to happen, in order."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Events:
    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def after(self, seconds: float, then: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + seconds, then, *arguments)

    def at(self, time: float, then: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._heap, (time, next(self._numbers), then, arguments))

    def run(self, until: float) -> None:
        """All that happens before `until`."""
        while self._heap and self._heap[0][0] < until:
            self.now, _, then, arguments = heapq.heappop(self._heap)
            then(*arguments)
        self.now = until
