"""The replicas of one service, as discovery reports them."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Self

import structlog

from services.ingress.dispatch.cold_start import ColdStart
from services.ingress.dispatch.discovery import Discovery
from services.ingress.dispatch.replica import Replica, ReplicaTls
from services.ingress.dispatch.retry_budget import RetryBudget
from videoanalysis.errors import Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_log = structlog.get_logger()

# How long the start waits for the first replicas to be discovered.
_FIRST_DISCOVERY_SECONDS = 0.5
_SECONDS_BETWEEN_CERTIFICATE_CHECKS = 1.0
_UNAVAILABLE = {"encoder": ErrorReason.ENCODER_UNAVAILABLE, "decoder": ErrorReason.DECODER_UNAVAILABLE}


class Replicas:
    """The current replicas of the service `name`. Attempts in flight at a removed replica continue to their end.

    `attempt_seconds` is the longest timeout of one attempt, `wait_seconds` how long a call waits while no replica
    answers, and `cold_start_seconds`, if longer, how long while there are none.
    """

    def __init__(
        self,
        name: str,
        discovery: Discovery,
        *,
        attempt_seconds: float,
        wait_seconds: float,
        cold_start_seconds: float = 0.0,
        tls: ReplicaTls | None = None,
    ) -> None:
        self.name = name
        self.attempt_seconds = attempt_seconds
        self.wait_seconds = wait_seconds
        self.cold_start_seconds = max(cold_start_seconds, wait_seconds)
        self.cold_start = ColdStart()
        self.by_address: dict[str, Replica] = {}
        self.retry_budget = RetryBudget()
        self.added = asyncio.Event()  # replaced by a new one whenever it is set
        self.on_update: list[Callable[[], None]] = []  # called after replicas were added or removed
        self._discovery = discovery
        self._tls = tls

    async def __aenter__(self) -> Self:
        added = self.added
        self._tasks = [asyncio.create_task(self._watch())]
        if self._tls is not None:
            self._tasks.append(asyncio.create_task(self._follow_certificates(self._tls)))
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_DISCOVERY_SECONDS):
                await added.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await asyncio.gather(*(replica.channel.close() for replica in self.by_address.values()))

    def unavailable(self) -> Unavailable:
        return Unavailable(
            f"no {self.name} could do this in time; see the service's log, or try again later",
            reason=_UNAVAILABLE[self.name],
        )

    async def _watch(self) -> None:
        try:
            async with aclosing(self._discovery.watch()) as changes:
                async for addresses in changes:
                    await self._update(addresses)
        except Exception as error:
            _log.error("bug", service=self.name, exc_info=error)

    async def _update(self, addresses: frozenset[str]) -> None:
        removed, added = self.by_address.keys() - addresses, addresses - self.by_address.keys()
        _log.info("replicas", service=self.name, count=len(addresses), added=sorted(added), removed=sorted(removed))
        retired = [self.by_address.pop(address) for address in removed]
        self.by_address.update((address, Replica(address, tls=self._tls)) for address in added)
        if added:
            self.cold_start.end()
            self.added.set()
            self.added = asyncio.Event()
        for callback in self.on_update:
            callback()
        for replica in retired:
            await replica.retire()

    async def _follow_certificates(self, tls: ReplicaTls) -> None:
        """Reconnects when the certificates are rotated; attempts in progress finish on the old connections."""
        used = tls.credentials.get()
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_CERTIFICATE_CHECKS)
            if (current := tls.credentials.get()) is used:
                continue
            used = current
            retired = list(self.by_address.values())
            self.by_address.update((replica.address, Replica(replica.address, tls=tls)) for replica in retired)
            for replica in retired:
                await replica.retire()
