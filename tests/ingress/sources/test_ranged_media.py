"""Media that fills while it is read: order of requests, each byte once, errors, stores without ranges."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.ingress.sources.ranged_media import RangedMedia
from tests.ingress.waiting import until
from videoanalysis.errors import FailedPrecondition
from videoanalysis.storage import RangesNotSupported

MIB = 1 << 20
CONTENT = os.urandom(MIB) * 20


class Remote:
    """An object whose pieces are sent one by one, by `release`; records what is requested."""

    def __init__(self, content: bytes = CONTENT, ranges: bool = True) -> None:
        self.content = content
        self.ranges = ranges
        self.requested: list[tuple[int, int]] = []
        self.sent = 0
        self.failure: Exception | None = None
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def blocks(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        self.requested.append((start, end))
        if not self.ranges and (start, end) != (0, len(self.content)):
            raise RangesNotSupported
        await self._released.wait()
        for position in range(start, end, 100_000):
            if self.failure:
                raise self.failure
            piece = self.content[position : min(position + 100_000, end)]
            self.sent += len(piece)
            yield piece
            await asyncio.sleep(0)


@asynccontextmanager
async def opened(remote: Remote) -> AsyncIterator[RangedMedia]:
    fd = os.memfd_create("media")
    try:
        async with RangedMedia.open(fd, len(remote.content), "v", remote) as media:
            yield media
    finally:
        os.close(fd)


async def read(media: RangedMedia, start: int, end: int) -> bytes:
    read = b""
    while start < end:
        present = min(end, await media.fetch(start, end))
        read += os.pread(media.fd, present - start, start)
        start = present
    return read


async def test_a_file_read_from_start_to_end_is_fetched_once():
    remote = Remote()
    remote.release()
    async with opened(remote) as media:
        assert not media.complete
        assert await read(media, 0, media.size) == CONTENT
        assert media.complete
        assert media.bytes_fetched == remote.sent == len(CONTENT)


async def test_bytes_that_are_waited_for_are_requested_at_once_and_the_rest_only_once():
    remote = Remote()
    remote.release()
    async with opened(remote) as media:
        await read(media, 0, 1000)
        tail = len(CONTENT) - 100_000
        assert await read(media, tail, len(CONTENT)) == CONTENT[tail:]
        assert await read(media, 0, media.size) == CONTENT
        assert remote.sent == len(CONTENT)


async def test_the_first_bytes_can_be_read_before_the_last_have_come():
    remote = Remote()
    async with opened(remote) as media:
        first = asyncio.create_task(media.fetch(0, 1000))
        await until(lambda: remote.requested != [])
        assert not first.done()
        remote.release()
        assert 1000 <= await first < media.size


async def test_no_more_is_fetched_than_lies_ahead_of_the_reader():
    remote = Remote(CONTENT * 10)
    remote.release()
    async with opened(remote) as media:
        await read(media, 0, 1000)
        await until(lambda: len(media._parts) == 0)
        assert remote.sent <= 73 * MIB
        await read(media, 40 * MIB, 41 * MIB)
        await until(lambda: len(media._parts) == 0)
        assert 100 * MIB <= remote.sent <= 113 * MIB


async def test_a_store_without_ranges_sends_all_from_the_start():
    remote = Remote(ranges=False)
    remote.release()
    async with opened(remote) as media:
        assert await read(media, len(CONTENT) - 10, len(CONTENT)) == CONTENT[-10:]
        assert await read(media, 0, media.size) == CONTENT
        assert remote.requested[1:] == [(0, len(CONTENT))]
        assert remote.sent == len(CONTENT)


async def test_what_ends_a_transfer_reaches_the_reader_once_bytes_are_missing():
    remote = Remote()
    remote.failure = FailedPrecondition("changed")
    remote.release()
    async with opened(remote) as media:
        for _ in range(2):
            with pytest.raises(FailedPrecondition, match="changed"):
                await media.fetch(0, 1000)


async def test_leaving_cancels_all_transfers():
    remote = Remote()
    tasks = asyncio.all_tasks()
    async with opened(remote):
        await until(lambda: remote.requested != [])
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("size", [0, 1, 64 << 10, (64 << 10) + 1])
async def test_any_size_is_complete_in_the_end(size):
    remote = Remote(CONTENT[:size])
    remote.release()
    async with opened(remote) as media:
        assert await read(media, 0, size) == CONTENT[:size]
        assert media.complete
        assert await media.fetch(size, size + 1) == size
