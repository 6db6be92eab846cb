"""A media file that fills while it is read: bytes that are waited for come first, then those that follow them."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from services.ingress.sources.scratch import disk_errors
from videoanalysis.storage import RangesNotSupported

_BLOCK_BYTES = 64 << 10  # what is marked as arrived at once
_PART_BYTES = 8 << 20  # at most, of one request
_PARTS_AT_ONCE = 3  # requests; one more for bytes that are waited for
_AHEAD_BYTES = 64 << 20  # fetched ahead of the last position that was read
_GRANTED_BYTES = 8 << 20  # reported as present at once, so that the reader's position is known

_MISSING, _REQUESTED, _PRESENT = 0, 1, 2


class RemoteObject(Protocol):
    """An object whose bytes stay the same while it is read; raises the ServiceErrors of its source."""

    def blocks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to `end`; raises RangesNotSupported before the first one if it can only send all."""


class RangedMedia:
    """`fd` is a file for `size` bytes, sparse while some are missing.

    Each byte is fetched at most once, unless a transfer fails.
    """

    def __init__(self, fd: int, size: int, version: str, remote: RemoteObject) -> None:
        self.fd = fd
        self.size = size
        self.version = version
        self.bytes_fetched = 0
        self._remote = remote
        self._blocks = bytearray(-(-size // _BLOCK_BYTES))  # the state of each
        self._position = 0  # the block that was read last
        self._has_ranges: bool | None = None  # not known before the first bytes
        self._error: BaseException | None = None
        self._changed = asyncio.Condition()
        self._parts: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, fd: int, size: int, version: str, remote: RemoteObject) -> AsyncIterator["RangedMedia"]:
        """Fetches until the context is left."""
        media = cls(fd, size, version, remote)
        try:
            if size > 0:
                media._start_part(0)
            yield media
        finally:
            for part in media._parts:
                part.cancel()
            await asyncio.gather(*media._parts, return_exceptions=True)

    @property
    def complete(self) -> bool:
        return self._blocks.count(_PRESENT) == len(self._blocks)

    async def fetch(self, start: int, end: int) -> int:
        """Waits for the first block from `start`; returns up to where bytes are there. Raises what a transfer did."""
        if start >= self.size:
            return self.size
        self._position = block = start // _BLOCK_BYTES
        if self._blocks[block] == _MISSING and self._has_ranges and self._error is None:
            self._start_part(block)  # in addition to those in progress
        self._fetch_ahead()
        async with self._changed:
            await self._changed.wait_for(lambda: self._blocks[block] == _PRESENT or self._error is not None)
        if self._blocks[block] != _PRESENT:
            assert self._error is not None
            raise self._error
        return min(self._run_end(block, _GRANTED_BYTES // _BLOCK_BYTES) * _BLOCK_BYTES, self.size)

    def _run_end(self, first: int, most: int) -> int:
        """The end of the run of blocks from `first` on that have the same state, of at most `most`."""
        last = min(first + most, len(self._blocks))
        others = [state for state in (_MISSING, _REQUESTED, _PRESENT) if state != self._blocks[first]]
        ends = [self._blocks.find(bytes([state]), first, last) for state in others]
        return min((end for end in ends if end >= 0), default=last)

    def _fetch_ahead(self) -> None:
        while self._has_ranges and self._error is None and len(self._parts) < _PARTS_AT_ONCE:
            block = self._blocks.find(bytes([_MISSING]), self._position, self._position + _AHEAD_BYTES // _BLOCK_BYTES)
            if block < 0:
                return
            self._start_part(block)

    def _start_part(self, first: int) -> None:
        last = self._run_end(first, _PART_BYTES // _BLOCK_BYTES)
        self._blocks[first:last] = bytes([_REQUESTED]) * (last - first)
        part = asyncio.create_task(self._fetch_part(first, last))
        self._parts.add(part)
        part.add_done_callback(self._parts.discard)

    async def _fetch_part(self, first: int, last: int) -> None:
        start, end = first * _BLOCK_BYTES, min(last * _BLOCK_BYTES, self.size)
        try:
            with disk_errors():
                try:
                    await self._receive(self._remote.blocks(start, end), start)
                except RangesNotSupported:
                    self._has_ranges = False
                    await self._receive(self._remote.blocks(0, self.size), 0)
        except Exception as error:
            self._error = error
            async with self._changed:
                self._changed.notify_all()
        else:
            self._parts.discard(asyncio.current_task())
            self._fetch_ahead()

    async def _receive(self, pieces: AsyncGenerator[bytes, None], position: int) -> None:
        """Write `pieces` to the file from `position` on."""
        async with aclosing(pieces):
            async for piece in pieces:
                await asyncio.to_thread(_write, self.fd, piece, position)
                first = position // _BLOCK_BYTES  # parts start at blocks, so those before it are there
                if self._has_ranges is None:
                    self._has_ranges = True
                    self._fetch_ahead()
                position += len(piece)
                self.bytes_fetched += len(piece)
                last = len(self._blocks) if position == self.size else position // _BLOCK_BYTES
                self._blocks[first:last] = bytes([_PRESENT]) * max(0, last - first)
                async with self._changed:
                    self._changed.notify_all()


def _write(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written
