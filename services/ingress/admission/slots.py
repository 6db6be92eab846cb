"""Slots for videos: a few are in progress at a time, a bounded fair queue waits behind them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.ingress.admission.deadline import Deadline
from services.ingress.admission.fair_queue import FairQueue, Share
from videoanalysis.errors import DeadlineExceeded, Overloaded
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# Weight of the newest video in the running mean of how long a video takes.
_NEWEST = 0.2
# Estimates err, and a video that starts and then misses its deadline has wasted its slot.
_MARGIN = 1.2


class Admission:
    """`max_running` slots, and at most `max_waiting` requests that wait for one, fairly by caller.

    Refuses with Overloaded when the deadline would pass before a slot is free, and when the queue is full: then either
    the newest request of the caller with most waiting, or the new one. Batch leaves one slot to the interactive. One
    caller has at most `max_running_per_caller` slots and `max_waiting_per_caller` waiting requests, or what its share
    says, also while slots are free.
    """

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        *,
        max_running_per_caller: int | None = None,
        max_waiting_per_caller: int | None = None,
    ) -> None:
        self._max_running = max_running
        self._max_batch = max(1, max_running - 1)
        self._max_waiting = max_waiting
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()
        self._mean_seconds = 0.0
        self._max_running_per_caller = max_running if max_running_per_caller is None else max_running_per_caller
        self._max_waiting_per_caller = max_waiting if max_waiting_per_caller is None else max_waiting_per_caller
        self._batch = 0
        self._running_of: Counter[str] = Counter()
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def expected_wait(self, share: Share) -> float:
        """Seconds until another request of `share` would get a slot, estimated from the videos so far."""
        if self._may_start(share):
            return 0.0
        rounds = (self._queue.ahead_of(share) + 1) / self._max_running
        own_rounds = (self._queue.count_of(share.caller) + 1) / self._limit_of(share)
        return max(rounds, own_rounds) * self._mean_seconds

    @asynccontextmanager
    async def admit(self, share: Share, deadline: Deadline) -> AsyncIterator[None]:
        """Holds a slot for as long as the context lasts."""
        await self._acquire(share, deadline)
        started = time.monotonic()
        try:
            yield
            seconds = time.monotonic() - started
            self._mean_seconds += _NEWEST * (seconds - self._mean_seconds) if self._mean_seconds else seconds
        finally:
            self._release(share)

    async def _acquire(self, share: Share, deadline: Deadline) -> None:
        if self._may_start(share):
            self._occupy(share)
            return
        self._check_own_limit(share)
        wait = self.expected_wait(share)
        if _MARGIN * (wait + self._mean_seconds) > deadline.remaining():
            raise Overloaded(
                f"the deadline would pass: about {wait:.1f} s to wait, about {self._mean_seconds:.1f} s for a video",
                retry_after_seconds=max(1.0, wait),
            )
        if self.waiting >= self._max_waiting:
            self._evict_for(share)
        granted = asyncio.get_running_loop().create_future()
        self._queue.push(share, granted)
        try:
            async with asyncio.timeout(deadline.remaining()):
                await granted
        except BaseException as error:
            self._queue.discard(share, granted)
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._release(share)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("the deadline passed while the request waited for a slot") from error
            raise

    def _evict_for(self, share: Share) -> None:
        """Raises Overloaded, here or in the request that is evicted."""
        refusal = Overloaded(
            f"{self.waiting} requests are waiting",
            retry_after_seconds=max(1.0, self._max_waiting * self._mean_seconds / self._max_running / 2),
        )
        evicted = self._queue.evict_for(share) if self._max_waiting else None
        if evicted is None:
            raise refusal
        if not evicted.done():
            evicted.set_exception(refusal)

    def _check_own_limit(self, share: Share) -> None:
        limit = self._max_waiting_per_caller if share.max_waiting is None else share.max_waiting
        if (waiting := self._queue.count_of(share.caller)) >= limit:
            raise Overloaded(
                f"{waiting} requests of this caller are waiting, {limit} may",
                reason=ErrorReason.CALLER_OVER_LIMIT,
                retry_after_seconds=max(1.0, self._mean_seconds / self._limit_of(share)),
            )

    def _limit_of(self, share: Share) -> int:
        """Slots that its caller may hold."""
        limit = self._max_running_per_caller if share.max_running is None else share.max_running
        return min(limit, self._max_running)

    def _may_start(self, share: Share) -> bool:
        return (
            self.running < self._max_running
            and (not share.batch or self._batch < self._max_batch)
            and self._running_of[share.caller] < self._limit_of(share)
        )

    def _occupy(self, share: Share) -> None:
        self.running += 1
        self._batch += share.batch
        self._running_of[share.caller] += 1

    def _release(self, share: Share) -> None:
        """Frees the slot and grants free slots to the next in the queue."""
        self.running -= 1
        self._batch -= share.batch
        self._running_of[share.caller] -= 1
        if not self._running_of[share.caller]:
            del self._running_of[share.caller]
        while self.running < self._max_running:
            following = self._queue.pop(self._may_start)
            if following is None:
                return
            its_share, granted = following
            if not granted.done():
                self._occupy(its_share)
                granted.set_result(None)
