"""Exponential backoff with jitter."""

import random


class Backoff:
    """Delays that double from `first_seconds` to `longest_seconds`, each with a jitter of ±50 %.

    Own code instead of `tenacity` or `stamina`: those wrap a function and sleep by themselves, while the loops here end
    a delay early (a new replica), lengthen it (RetryInfo), check it against a deadline or reset it after a success.
    """

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self.reset()

    def reset(self) -> None:
        self._seconds = self._first_seconds

    def next(self, at_least_seconds: float = 0.0) -> float:
        """The next delay in seconds."""
        seconds = max(self._seconds, at_least_seconds)
        self._seconds = min(2 * self._seconds, self._longest_seconds)
        return seconds * random.uniform(0.5, 1.5)
