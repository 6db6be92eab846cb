"""When a request must be answered, passed along to everything done for it."""

import time
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Deadline:
    at: float  # of time.monotonic()

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    @classmethod
    def of(cls, context: grpc.aio.ServicerContext, at_most_seconds: float) -> "Deadline":
        """The caller's, but never later than `at_most_seconds` from now."""
        remaining = context.time_remaining()
        return cls.after(at_most_seconds if remaining is None else min(remaining, at_most_seconds))

    def remaining(self) -> float:
        """Seconds, 0 when it has passed."""
        return max(0.0, self.at - time.monotonic())
