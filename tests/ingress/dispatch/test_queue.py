import asyncio

from services.ingress.admission import Share
from services.ingress.dispatch.queue import DispatchQueue

LONG, SHORT, OTHER = Share("a", 1), Share("a", 2), Share("b", 3)


class Chunk:
    """Waits for a slot, and then holds it until the test ends it."""

    def __init__(self, queue: DispatchQueue, share: Share) -> None:
        self.has_slot = asyncio.Event()
        self._ended = asyncio.Event()
        self._queue = queue
        self.task = asyncio.ensure_future(self._live(share))

    async def _live(self, share: Share) -> None:
        async with self._queue.slot(share) as self.slot:
            self.has_slot.set()
            await self._ended.wait()

    async def ends(self) -> None:
        self._ended.set()
        await self.task
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_are_on_offer_than_the_limit():
    dispatch = DispatchQueue(lambda: 3)
    chunks = [Chunk(dispatch, LONG) for _ in range(5)]
    await settle()
    assert (dispatch.offered, dispatch.waiting) == (3, 2)
    await chunks[0].ends()
    assert (dispatch.offered, dispatch.waiting) == (3, 1)
    for chunk in chunks[1:]:
        await chunk.ends()
    assert (dispatch.offered, dispatch.waiting) == (0, 0)


async def test_slots_go_round_by_caller_and_by_video():
    dispatch = DispatchQueue(lambda: 1)
    first, *chunks = [Chunk(dispatch, share) for share in (LONG, LONG, LONG, SHORT, OTHER)]
    await settle()
    order = []
    await first.ends()
    while waiting := [chunk for chunk in chunks if not chunk.task.done()]:
        chunk = next(chunk for chunk in waiting if chunk.has_slot.is_set())
        order.append(chunks.index(chunk))
        await chunk.ends()
    assert order == [0, 3, 2, 1]


async def test_once_one_is_admitted_the_next_is_offered_though_the_work_goes_on():
    dispatch = DispatchQueue(lambda: 1)
    first, second = Chunk(dispatch, LONG), Chunk(dispatch, LONG)
    await settle()
    first.slot.release()
    await settle()
    assert second.has_slot.is_set()
    first.slot.release()
    assert dispatch.offered == 1
    await first.ends()
    await second.ends()
    assert dispatch.offered == 0


async def test_a_chunk_that_is_cancelled_while_waiting_or_as_it_gets_its_slot_leaves_nothing_behind():
    dispatch = DispatchQueue(lambda: 1)
    first, leaving, in_the_moment, last = (Chunk(dispatch, LONG) for _ in range(4))
    await settle()
    leaving.task.cancel()
    first.slot.release()
    in_the_moment.task.cancel()
    await settle()
    assert last.has_slot.is_set()
    assert (dispatch.offered, dispatch.waiting) == (1, 0)
    await last.ends()
    await first.ends()
    assert dispatch.offered == 0


async def test_those_that_wait_are_first_when_the_limit_rises():
    limit = 1
    dispatch = DispatchQueue(lambda: limit)
    chunks = [Chunk(dispatch, LONG) for _ in range(3)]
    await settle()
    limit = 2
    newcomer = Chunk(dispatch, OTHER)
    await settle()
    assert not newcomer.has_slot.is_set()
    dispatch.grant()
    await settle()
    assert chunks[1].has_slot.is_set()
    assert (dispatch.offered, dispatch.waiting) == (2, 2)
    for chunk in (*chunks[:2], newcomer, chunks[2]):
        await chunk.ends()
    assert dispatch.offered == 0
