"""Resolves host names to public addresses only, so that no URL reaches the operator's own network."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_RESOLVE_SECONDS = 5.0
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all IPv6 addresses that are assigned to the public so far
_NAT64 = IPv6Network("64:ff9b::/96")  # with the IPv4 address to which a translator connects at the end

Networks = Sequence[IPv4Network | IPv6Network]


class AddressNotAllowed(Exception):
    """A host has an address that is private, loopback, link-local, or otherwise not public."""


class PublicAddresses(AbstractResolver):
    """A resolver that also accepts addresses in the networks `allowed`."""

    def __init__(self, allowed: Networks) -> None:
        self._allowed = allowed
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            _check(result["host"], self._allowed)
        return results

    async def check_name(self, uri: str) -> None:
        """For a host that is reached through a proxy: raises AddressNotAllowed if its name resolves to such an address.

        Where names outside are not resolved, in networks that only a proxy leads out of, the proxy alone decides.
        """
        with suppress(OSError):
            async with asyncio.timeout(_RESOLVE_SECONDS):
                await self.resolve(urlsplit(uri).hostname or "")

    async def close(self) -> None:
        await self._resolver.close()


def check_literal(uri: str, allowed: Networks) -> None:
    """Raises AddressNotAllowed if the host of `uri` is such an address; one that is a name passes."""
    host = urlsplit(uri).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return
    _check(host, allowed)


def _check(host: str, allowed: Networks) -> None:
    address = ip_address(host.partition("%")[0])
    if not _is_public(address) and not any(_reached(address) in network for network in allowed):
        raise AddressNotAllowed(host)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    reached = _reached(address)
    if isinstance(reached, IPv6Address) and (reached not in _GLOBAL_UNICAST or reached.sixtofour is not None):
        return False
    return reached.is_global and not reached.is_multicast


def _reached(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped or address
