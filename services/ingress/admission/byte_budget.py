"""A limit on bytes in use, for which the next in line waits."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """At most `limit` bytes are in use; who does not fit waits, in order of arrival.

    Nobody is overtaken, not even by one that would fit: otherwise small ones could keep a large one waiting for ever.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> None:
        """Take `size` bytes; ValueError if that could never fit. Whoever is cancelled has taken nothing."""
        if not 0 <= size <= self.limit:
            raise ValueError(f"{size} bytes never fit into a budget of {self.limit}")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._admit()
        try:
            await turn
        except BaseException:
            if turn.cancelled():
                self._admit()
            else:  # its turn had come already
                self.release(size)
            raise

    def release(self, size: int) -> None:
        self.in_use -= size
        self._admit()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes for as long as the context lasts."""
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    def _admit(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if self.in_use + size > self.limit:
                    return
                self.in_use += size
                turn.set_result(None)
            self._waiting.popleft()
