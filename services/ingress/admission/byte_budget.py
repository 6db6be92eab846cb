"""A limit on bytes in use: what exceeds it waits, first in, first out."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """At most `limit` bytes are in use; a request that does not fit waits, in order of arrival.

    A small request never overtakes a large one that waits, which could otherwise starve.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> None:
        """Takes `size` bytes; ValueError if they can never fit. A cancelled call takes nothing."""
        if not 0 <= size <= self.limit:
            raise ValueError(f"{size} bytes never fit into a budget of {self.limit}")
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        self._grant()
        try:
            await granted
        except BaseException:
            if granted.cancelled():
                self._grant()
            else:  # granted just before the cancellation
                self.release(size)
            raise

    def release(self, size: int) -> None:
        self.in_use -= size
        self._grant()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Holds `size` bytes for as long as the context lasts."""
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    def _grant(self) -> None:
        while self._waiting:
            size, granted = self._waiting[0]
            if not granted.cancelled():
                if self.in_use + size > self.limit:
                    return
                self.in_use += size
                granted.set_result(None)
            self._waiting.popleft()
