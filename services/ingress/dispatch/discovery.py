"""How the addresses of a service's replicas become known, and that they have changed."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

from services.ingress.dispatch.endpoint_slices import EndpointSlices
from services.ingress.dispatch.headless_dns import HeadlessDns
from services.ingress.dispatch.location import DnsName, KubernetesService


class Discovery(Protocol):
    def watch(self) -> AsyncGenerator[frozenset[str]]:
        """All addresses, as host:port, whenever they have changed; before the first time there are none.

        Never ends by itself. While its source fails it is silent and tries again, so that what was last known holds.
        """
        ...


class Static:
    """Addresses that an operator has listed."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = frozenset(addresses)

    async def watch(self) -> AsyncGenerator[frozenset[str]]:
        yield self._addresses
        await asyncio.Event().wait()


def discover(location: list[str] | DnsName | KubernetesService, every_seconds: float) -> Discovery:
    """`every_seconds` is the pace at which a DNS name is resolved again."""
    match location:
        case DnsName():
            return HeadlessDns(location, every_seconds)
        case KubernetesService():
            return EndpointSlices(location)
        case _:
            return Static(location)
