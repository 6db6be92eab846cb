"""The replicas behind one DNS name, which is resolved periodically."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from services.ingress.dispatch.discovery.location import DnsName
from services.ingress.dispatch.discovery.source import SourceHealth

# A name without addresses may be a service at zero, but also one whose pods are all being replaced. Beyond this time
# the addresses may belong to pods of another service.
_KEEP_SECONDS = 30.0
_NO_ADDRESSES = {socket.EAI_NONAME, socket.EAI_NODATA}


async def resolve(host: str) -> set[str]:
    """The IP addresses of `host`, empty if it has none; raises OSError if there is no answer.

    Those of one family: a pod with an IPv4 and an IPv6 address is one replica.
    """
    # No timeout here: it would leave the resolver's thread running. The resolver has a timeout of its own.
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _NO_ADDRESSES:
            return set()
        raise
    by_family = {family: {str(address[0]) for of, *_, address in found if of == family} for family, *_ in found}
    return by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6) or set()


class HeadlessDns:
    """A new replica is known within `every_seconds` and the time for which DNS caches keep the record.

    Without an answer the last addresses hold until there is one; when the answer is that there are none, for 30 s.
    """

    def __init__(
        self,
        name: DnsName,
        every_seconds: float,
        *,
        resolve: Callable[[str], Awaitable[Iterable[str]]] = resolve,
        keep_seconds: float = _KEEP_SECONDS,
    ) -> None:
        self._name = name
        self._every_seconds = every_seconds
        self._resolve = resolve
        self._keep_seconds = keep_seconds

    async def watch(self) -> AsyncGenerator[frozenset[str]]:
        health = SourceHealth(f"dns://{self._name.host}:{self._name.port}")
        known: frozenset[str] = frozenset()
        empty_since: float | None = None
        while True:
            try:
                answer = frozenset(self._with_port(address) for address in await self._resolve(self._name.host))
            except OSError as error:
                health.failed(str(error))
                answer = known
            else:
                health.works()
                empty_since = None if answer else empty_since or time.monotonic()
                if empty_since is not None and time.monotonic() - empty_since < self._keep_seconds:
                    answer = known
            if answer != known:
                known = answer
                yield known
            await asyncio.sleep(self._every_seconds)

    def _with_port(self, address: str) -> str:
        return f"[{address}]:{self._name.port}" if ":" in address else f"{address}:{self._name.port}"
