"""How much failed work may be repeated."""

import asyncio
import time
from collections.abc import Callable

from services.ingress.admission import Deadline
from videoanalysis.errors import DeadlineExceeded


class RetryBudget:
    """Failed attempts may be repeated for a tenth of what succeeds, and once a second.

    Up to `burst` repetitions are saved up, so that the loss of one replica delays no call. Without a budget, a service
    that fails under its load would get more of it.
    """

    def __init__(self, burst: float = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._clock = clock
        self._saved = burst
        self._at = clock()

    def succeeded(self) -> None:
        self._save(0.1)

    async def take(self, deadline: Deadline) -> None:
        """Waits until one repetition is allowed; raises DeadlineExceeded where that would take too long."""
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
