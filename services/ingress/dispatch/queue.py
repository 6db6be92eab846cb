"""The ingress's queue in front of the encoders: fair by caller, then by video."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from services.ingress.admission import FairQueue, Share


class DispatchQueue:
    """At most `limit()` chunks are on offer at a time; the others wait here. Call `grant` when the limit has risen.

    Encoders are fair by ingress and not by caller, so the order by caller is decided here, before a chunk is offered.
    The frame budget bounds the number of chunks that wait.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self.offered = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self, share: Share) -> AsyncGenerator["Slot"]:
        """Waits until a chunk of `share` may be offered."""
        if self.offered < self._limit() and not self._waiting:
            self.offered += 1
        else:
            await self._wait(share)
        slot = Slot(self)
        try:
            yield slot
        finally:
            slot.release()

    async def _wait(self, share: Share) -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting.push(share, granted)
        try:
            await granted
        except BaseException:
            if granted.cancelled():
                self._waiting.discard(share, granted)
            else:  # granted just before the cancellation
                self.release()
            raise

    def release(self) -> None:
        self.offered -= 1
        self.grant()

    def grant(self) -> None:
        """Let waiting chunks be offered, up to the limit."""
        while self.offered < self._limit() and (following := self._waiting.pop()) is not None:
            _, granted = following
            # A cancelled future leaves the queue when its task runs next.
            if not granted.done():
                self.offered += 1
                granted.set_result(None)


class Slot:
    """The right to offer one chunk, until an encoder admits it or its call ends."""

    def __init__(self, queue: DispatchQueue) -> None:
        self._queue = queue
        self._is_released = False

    def release(self) -> None:
        if not self._is_released:
            self._is_released = True
            self._queue.release()
