"""Who may start: a few videos at a time, a bounded fair line behind them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.ingress.admission.deadline import Deadline
from services.ingress.admission.fair_queue import FairQueue, Share
from videoanalysis.errors import DeadlineExceeded, Overloaded

# Weight of the newest video in the running mean of how long a video takes.
_NEWEST = 0.2
# Estimates err; who starts and then misses its deadline has used up what another one could have had.
_MARGIN = 1.2


class Admission:
    """`max_running` videos in progress, `max_waiting` requests in line, whose turn comes by caller.

    Refuses with Overloaded when the deadline would pass before the turn comes, and when the line is full: then the
    newcomer, or if others of one caller fill the line, the last of those. Batch leaves one place to the interactive.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._max_running = max_running
        self._max_batch = max(1, max_running - 1)
        self._max_waiting = max_waiting
        self._line: FairQueue[asyncio.Future[None]] = FairQueue()
        self._mean_seconds = 0.0
        self._batch = 0
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    def expected_wait(self, share: Share) -> float:
        """Seconds until another request of `share` would start, as far as the videos so far tell."""
        if self._has_place(share.batch):
            return 0.0
        return (self._line.ahead_of(share) + 1) * self._mean_seconds / self._max_running

    @asynccontextmanager
    async def admit(self, share: Share, deadline: Deadline) -> AsyncIterator[None]:
        await self._enter(share, deadline)
        started = time.monotonic()
        try:
            yield
            seconds = time.monotonic() - started
            self._mean_seconds += _NEWEST * (seconds - self._mean_seconds) if self._mean_seconds else seconds
        finally:
            self._leave(share)

    async def _enter(self, share: Share, deadline: Deadline) -> None:
        if self._has_place(share.batch):
            self._take(share)
            return
        wait = self.expected_wait(share)
        if _MARGIN * (wait + self._mean_seconds) > deadline.remaining():
            raise Overloaded(
                f"the deadline would pass: about {wait:.1f} s to wait, about {self._mean_seconds:.1f} s for a video",
                retry_after_seconds=max(1.0, wait),
            )
        if self.waiting >= self._max_waiting:
            self._make_room(share)
        turn = asyncio.get_running_loop().create_future()
        self._line.push(share, turn)
        try:
            async with asyncio.timeout(deadline.remaining()):
                await turn
        except BaseException as error:
            self._line.discard(share, turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(share)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("the deadline passed while the request waited for its turn") from error
            raise

    def _make_room(self, share: Share) -> None:
        """Raises Overloaded, here or in the request that is pushed out."""
        refusal = Overloaded(
            f"{self.waiting} requests are waiting",
            retry_after_seconds=max(1.0, self._max_waiting * self._mean_seconds / self._max_running / 2),
        )
        pushed_out = self._line.push_out(share) if self._max_waiting else None
        if pushed_out is None:
            raise refusal
        if not pushed_out.done():
            pushed_out.set_exception(refusal)

    def _has_place(self, batch: bool) -> bool:
        return self.running < self._max_running and (not batch or self._batch < self._max_batch)

    def _take(self, share: Share) -> None:
        self.running += 1
        self._batch += share.batch

    def _leave(self, share: Share) -> None:
        """Hand the place to the next in line."""
        self.running -= 1
        self._batch -= share.batch
        while self._has_place(batch=False):
            following = self._line.pop(batch=self._has_place(batch=True))
            if following is None:
                return
            its_share, turn = following
            if not turn.done():
                self._take(its_share)
                turn.set_result(None)
