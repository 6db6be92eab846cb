"""What every source of addresses provides, and how it reports that it fails."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

import structlog

_log = structlog.get_logger()


class Discovery(Protocol):
    def watch(self) -> AsyncGenerator[frozenset[str]]:
        """All addresses, as host:port, whenever they have changed; before the first time there are none.

        Never ends by itself. While its source fails it yields nothing and tries again, so the last addresses hold.
        """
        ...


class Static:
    """Addresses that an operator has listed."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = frozenset(addresses)

    async def watch(self) -> AsyncGenerator[frozenset[str]]:
        yield self._addresses
        await asyncio.Event().wait()


class SourceHealth:
    """Logs that a source fails and that it works again, once each however often it is tried."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._is_failing = False

    def failed(self, error: str) -> None:
        if not self._is_failing:
            _log.warning("discovery fails, the last addresses are kept", source=self._source, error=error)
        self._is_failing = True

    def works(self) -> None:
        if self._is_failing:
            _log.info("discovery works again", source=self._source)
        self._is_failing = False
