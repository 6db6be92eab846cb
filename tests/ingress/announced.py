"""Discovery as a test tells it."""

import asyncio
from collections.abc import AsyncGenerator


class Announced:
    def __init__(self, *addresses: str) -> None:
        self._news: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.say(*addresses)

    def say(self, *addresses: str) -> None:
        self._news.put_nowait(frozenset(addresses))

    async def watch(self) -> AsyncGenerator[frozenset[str]]:
        while True:
            yield await self._news.get()
