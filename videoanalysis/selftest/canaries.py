"""A file that must never be opened and an address that must never be contacted, and a report when either happens."""

import asyncio
import ctypes
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

_IN_OPEN = 0x20

_libc = ctypes.CDLL(None, use_errno=True)


class FileCanary:
    """Reports whether any process of this machine has opened the file since the last query. Linux only."""

    def __init__(self, path: Path, inotify: int) -> None:
        self.path = path
        self._inotify = inotify

    def was_opened(self) -> bool:
        with suppress(BlockingIOError):
            return bool(os.read(self._inotify, 4096))
        return False


@contextmanager
def watched(path: Path) -> Iterator[FileCanary]:
    inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if inotify < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        if _libc.inotify_add_watch(inotify, os.fsencode(path), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        yield FileCanary(path, inotify)
    finally:
        os.close(inotify)


class AddressCanary(asyncio.DatagramProtocol):
    """Listens for TCP connections and for UDP datagrams on one port."""

    def __init__(self) -> None:
        self.address = ""
        self.contacted = asyncio.Event()

    def was_contacted(self) -> bool:
        """Whether a connection or a datagram has arrived since the last query."""
        contacted = self.contacted.is_set()
        self.contacted.clear()
        return contacted

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.contacted.set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.contacted.set()
        writer.close()


@asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[AddressCanary]:
    """A canary at `host`, an address of this machine."""
    canary = AddressCanary()
    server = await asyncio.start_server(canary.connected, host, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: canary, (host, port))
        canary.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            yield canary
        finally:
            transport.close()


def host_towards(address: str) -> str:
    """The address of this machine from which host:port is reached."""
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)  # sends nothing
        return str(probe.getsockname()[0])
