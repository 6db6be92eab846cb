"""Who may start: a few videos at a time, a bounded line behind them."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.ingress.deadline import Deadline
from videoanalysis.errors import DeadlineExceeded, Overloaded

# Weight of the newest video in the running mean of how long a video takes.
_NEWEST = 0.2


class Admission:
    """`max_running` videos in progress, `max_waiting` requests in line.

    Refuses with Overloaded when the line is full or when the deadline would pass before the turn comes.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._line: deque[asyncio.Future[None]] = deque()
        self._mean_seconds = 0.0
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    @asynccontextmanager
    async def admit(self, deadline: Deadline) -> AsyncIterator[None]:
        await self._enter(deadline)
        started = time.monotonic()
        try:
            yield
            seconds = time.monotonic() - started
            self._mean_seconds += _NEWEST * (seconds - self._mean_seconds) if self._mean_seconds else seconds
        finally:
            self._leave()

    async def _enter(self, deadline: Deadline) -> None:
        if self.running < self._max_running:
            self.running += 1
            return
        expected = (self.waiting + 1) * self._mean_seconds / self._max_running
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self.waiting} requests are waiting", retry_after_seconds=max(1.0, expected / 2))
        if expected > deadline.remaining():
            raise Overloaded(
                f"the wait of about {expected:.0f} s exceeds the deadline", retry_after_seconds=max(1.0, expected)
            )
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout(deadline.remaining()):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()
            elif turn in self._line:
                self._line.remove(turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("the deadline passed while the request waited for its turn") from error
            raise

    def _leave(self) -> None:
        """Hand the place to the next in line."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
