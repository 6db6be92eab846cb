"""A limit on bytes in use, for which the next in line waits."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """At most `limit` bytes are in use; who does not fit waits, in order of arrival."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> None:
        """Take `size` bytes; ValueError if that could never fit."""
        if size > self.limit:
            raise ValueError(f"{size} bytes never fit into a budget of {self.limit}")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size)
            elif (size, turn) in self._waiting:
                self._waiting.remove((size, turn))
                self._admit()
            raise

    def release(self, size: int) -> None:
        self.in_use -= size
        self._admit()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    def _admit(self) -> None:
        while self._waiting and self.in_use + self._waiting[0][0] <= self.limit:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self.in_use += size
                turn.set_result(None)
