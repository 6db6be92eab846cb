"""How much failed work may be repeated."""

import asyncio
import time
from collections.abc import Callable

from services.ingress.admission import Deadline
from videoanalysis.errors import DeadlineExceeded


class RetryBudget:
    """Allows one retry for every ten successes, and one a second in addition.

    Up to `burst` unused retries accumulate, so that the loss of one replica delays no call. Without a budget, retries
    would add load to a service that fails because of its load.
    """

    def __init__(self, burst: float = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._clock = clock
        self._saved = burst
        self._at = clock()

    def succeeded(self) -> None:
        self._save(0.1)

    async def take(self, deadline: Deadline) -> None:
        """Waits until one retry is allowed; raises DeadlineExceeded if that is after the deadline."""
        self._save(0.0)
        self._saved -= 1
        wait_seconds = max(0.0, -self._saved)
        if wait_seconds > 0 and wait_seconds >= deadline.remaining():
            self._saved += 1
            raise DeadlineExceeded("so many attempts failed that repeating this would take longer than the deadline")
        await asyncio.sleep(wait_seconds)

    def _save(self, earned: float) -> None:
        now = self._clock()
        self._saved = min(self._burst, self._saved + earned + now - self._at)
        self._at = now
