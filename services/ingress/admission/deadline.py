"""When a request must be answered; passed along to everything that is done for it."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    at: float  # of time.monotonic()

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    @classmethod
    def of(cls, time_remaining: float | None, at_most_seconds: float) -> "Deadline":
        """The caller's, where it sets one, but never later than `at_most_seconds` from now."""
        return cls.after(at_most_seconds if time_remaining is None else min(time_remaining, at_most_seconds))

    def remaining(self) -> float:
        """Seconds, 0 when it has passed."""
        return max(0.0, self.at - time.monotonic())
