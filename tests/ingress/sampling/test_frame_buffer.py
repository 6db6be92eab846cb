import asyncio
import mmap
import os
from pathlib import Path

import pytest

from services.ingress.admission import ByteBudget
from services.ingress.sampling.frame_buffer import FrameBuffer

LIMIT = 100_000


def write(fd: int, content: bytes) -> None:
    """As another process would, that was given the descriptor."""
    with mmap.mmap(fd, 0) as memory:
        memory[:] = content


async def test_what_another_process_writes_comes_out_in_pieces() -> None:
    content = os.urandom(10_007)
    buffer = await FrameBuffer.allocate(len(content), ByteBudget(LIMIT))
    write(buffer.fd, content)
    pieces = list(buffer.pieces(4096))
    assert [len(piece) for piece in pieces] == [4096, 4096, 1815]
    assert b"".join(pieces) == content
    buffer.close()


async def test_each_piece_comes_behind_the_head_for_its_length() -> None:
    buffer = await FrameBuffer.allocate(10, ByteBudget(LIMIT))
    write(buffer.fd, b"0123456789")
    pieces = buffer.pieces(4, 9, lambda nbytes: b"%d:" % nbytes)
    assert next(pieces) == b"4:0123"
    assert list(pieces) == [b"4:4567", b"1:8"]
    buffer.close()


async def test_closes_between_two_pieces() -> None:
    buffer = await FrameBuffer.allocate(10, ByteBudget(LIMIT))
    pieces = buffer.pieces(4)
    next(pieces)
    buffer.close()


async def test_pieces_stay_as_they_are_when_the_buffer_is_closed() -> None:
    buffer = await FrameBuffer.allocate(4, ByteBudget(LIMIT))
    write(buffer.fd, b"last")
    (piece,) = buffer.pieces(10)
    buffer.close()
    assert piece == b"last"


@pytest.mark.parametrize("size", [0, 1, 5000])
async def test_its_size_cannot_be_changed(size: int) -> None:
    """A process that reads truncated memory is killed."""
    buffer = await FrameBuffer.allocate(4096, ByteBudget(LIMIT))
    with pytest.raises(PermissionError):
        os.ftruncate(buffer.fd, size)
    buffer.close()


async def test_waits_for_its_share_of_the_budget_and_gives_it_back_once() -> None:
    budget = ByteBudget(LIMIT)
    first = await FrameBuffer.allocate(60_000, budget)
    waiting = asyncio.create_task(FrameBuffer.allocate(60_000, budget))
    await asyncio.sleep(0)
    assert not waiting.done()
    first.close()
    first.close()
    second = await waiting
    assert budget.in_use == 60_000
    second.close()
    assert budget.in_use == 0


async def test_closing_frees_memory_and_descriptors() -> None:
    before = frames_held()
    buffer = await FrameBuffer.allocate(4096, ByteBudget(LIMIT))
    assert frames_held() > before
    buffer.close()
    assert frames_held() == before


async def test_what_cannot_be_allocated_leaves_nothing_behind() -> None:
    before = frames_held()
    budget = ByteBudget(1 << 62)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        await FrameBuffer.allocate(1 << 61, budget)
    assert budget.in_use == 0
    assert frames_held() == before


def frames_held() -> int:
    """Mappings and descriptors of frame memory in this process."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    targets = [os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()]
    return sum("memfd:frames" in name for name in [*maps, *targets])
