"""Slots for videos: a fixed number are in progress at a time; the others wait in a bounded, fair queue."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from services.ingress.admission.deadline import Deadline
from services.ingress.admission.fair_queue import FairQueue, Share
from services.ingress.admission.service_time import ServiceTimes
from videoanalysis.errors import DeadlineExceeded, Overloaded
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# The estimate may be too low, and a video that misses its deadline has used its slot for nothing.
_MARGIN = 1.2


class Slot:
    """A slot that a video holds.

    It waits for a caller that does not read: in total at most as long as the video was processed, plus
    `caller_timeout_seconds`. `times` are the service times of the same kind of request.
    """

    def __init__(self, share: Share, times: ServiceTimes, caller_timeout_seconds: float) -> None:
        self.share = share
        self.times = times
        self.video_seconds = 0.0
        """Duration of the video, or of the part read so far; 0 while unknown."""
        self._caller_timeout_seconds = caller_timeout_seconds
        self._started = time.monotonic()
        self._blocked_seconds = 0.0

    @property
    def service_seconds(self) -> float:
        """Since the slot was granted, without the time in which the caller did not read."""
        return time.monotonic() - self._started - self._blocked_seconds

    @asynccontextmanager
    async def waiting_for_caller(self) -> AsyncIterator[None]:
        """Surrounds the sending of an event to the caller; raises DeadlineExceeded when that takes too long."""
        began = time.monotonic()
        allowed = self._caller_timeout_seconds + self.service_seconds - self._blocked_seconds
        try:
            async with asyncio.timeout(allowed) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                "the caller reads more slowly than the video is analysed; its slot is needed for others",
                reason=ErrorReason.CALLER_TOO_SLOW,
            ) from error
        finally:
            self._blocked_seconds += time.monotonic() - began


class Admission:
    """`max_running` slots, and at most `max_waiting` requests that wait for one, fairly by caller.

    Refuses with Overloaded when the deadline would pass before a slot is free, and when the queue is full: then either
    the newest request of the caller with most waiting, or the new one. Batch requests never take the last slot. One
    caller has at most `max_running_per_caller` slots and `max_waiting_per_caller` waiting requests, or the numbers in
    its share, also while slots are free.

    Requests that have arrived but have not requested a slot yet, because their caller has not read the first event,
    have the same bound as those that wait.
    """

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        *,
        max_running_per_caller: int | None = None,
        max_waiting_per_caller: int | None = None,
        caller_timeout_seconds: float = 30.0,
    ) -> None:
        self._max_running = max_running
        self._max_batch = max(1, max_running - 1)
        self._max_waiting = max_waiting
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()
        self._times = ServiceTimes()
        self._redecoding_times = ServiceTimes()
        self._slots: set[Slot] = set()
        self._arriving: Counter[str] = Counter()
        self._caller_timeout_seconds = caller_timeout_seconds
        self._max_running_per_caller = max_running if max_running_per_caller is None else max_running_per_caller
        self._max_waiting_per_caller = max_waiting_per_caller
        self._batch = 0
        self._running_of: Counter[str] = Counter()
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def arriving(self) -> int:
        return self._arriving.total()

    @contextmanager
    def arrival(self, share: Share) -> Iterator[None]:
        """Counts a request until it requests a slot; raises Overloaded if there are too many of these."""
        self._check_own_limit(share, at_least=self._limit_of(share))
        if self.arriving >= max(self._max_waiting, self._max_running):
            raise Overloaded(f"{self.arriving} requests have arrived whose callers do not read")
        self._arriving[share.caller] += 1
        try:
            yield
        finally:
            self._arriving[share.caller] -= 1
            if not self._arriving[share.caller]:
                del self._arriving[share.caller]

    def expected_wait(self, share: Share) -> float:
        """Seconds until a new request of `share` would get a slot.

        Estimated from the service times so far and the durations of the videos in progress.
        """
        if self._may_start(share):
            return 0.0
        slots = self._max_batch if share.batch else self._max_running
        remaining = {slot: self._remaining_seconds(slot) for slot in self._slots}
        own = [seconds for slot, seconds in remaining.items() if slot.share.caller == share.caller]
        return max(
            self._times.until_start(remaining.values(), slots, self._queue.ahead_of(share)),
            self._times.until_start(own, self._limit_of(share), self._queue.count_of(share.caller)),
        )

    def _remaining_seconds(self, slot: Slot) -> float:
        return max(0.0, slot.times.of(slot.video_seconds) - slot.service_seconds)

    @asynccontextmanager
    async def admit(self, share: Share, deadline: Deadline, *, redecodes: bool = False) -> AsyncIterator[Slot]:
        """Holds a slot for as long as the context lasts.

        Calls that redecode are much shorter than analyses, so their service times are estimated separately.
        """
        times = self._redecoding_times if redecodes else self._times
        await self._acquire(share, times, deadline)
        slot = Slot(share, times, self._caller_timeout_seconds)
        self._slots.add(slot)
        try:
            yield slot
            times.observe(slot.service_seconds, slot.video_seconds)
        finally:
            self._slots.discard(slot)
            self._release(share)

    async def _acquire(self, share: Share, times: ServiceTimes, deadline: Deadline) -> None:
        if self._may_start(share):
            self._occupy(share)
            return
        self._check_own_limit(share)
        wait = self.expected_wait(share)
        least = times.shortest_seconds
        if _MARGIN * (wait + least) > deadline.remaining():
            raise Overloaded(
                f"the deadline would pass: about {wait:.1f} s to wait, at least {least:.1f} s for a video",
                retry_after_seconds=max(1.0, wait),
            )
        if len(self._queue) >= self._max_waiting:
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
            f"{len(self._queue)} requests are waiting",
            retry_after_seconds=max(1.0, self._max_waiting * self._times.mean_seconds / self._max_running / 2),
        )
        evicted = self._queue.evict_for(share) if self._max_waiting else None
        if evicted is None:
            raise refusal
        if not evicted.done():
            evicted.set_exception(refusal)

    def _check_own_limit(self, share: Share, at_least: int = 0) -> None:
        limit = self._max_waiting_per_caller if share.max_waiting is None else share.max_waiting
        if limit is None:
            return
        limit = max(limit, at_least)
        if (waiting := self._queue.count_of(share.caller) + self._arriving[share.caller]) >= limit:
            raise Overloaded(
                f"{waiting} requests of this caller are waiting, {limit} may",
                reason=ErrorReason.CALLER_OVER_LIMIT,
                retry_after_seconds=max(1.0, self._times.mean_seconds / self._limit_of(share)),
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
