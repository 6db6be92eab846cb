"""Discovery of the addresses that a test publishes."""

import asyncio
from collections.abc import AsyncGenerator


class Announced:
    def __init__(self, *addresses: str) -> None:
        self._published: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.publish(*addresses)

    def publish(self, *addresses: str) -> None:
        self._published.put_nowait(frozenset(addresses))

    async def watch(self) -> AsyncGenerator[frozenset[str]]:
        while True:
            yield await self._published.get()
