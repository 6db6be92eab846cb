import asyncio

from services.ingress.admission.fair_queue import Share
from services.ingress.dispatch.queue import DispatchQueue, Turn

LONG, SHORT, OTHER = Share("a", 1), Share("a", 2), Share("b", 3)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Chunk:
    """One that asks for its turn, and then has it until told what became of it."""

    def __init__(self, line: DispatchQueue, share: Share) -> None:
        self.has_turn = asyncio.Event()
        self._told = asyncio.Event()
        self._line = line
        self.task = asyncio.ensure_future(self._live(share))

    async def _live(self, share: Share) -> None:
        async with self._line.turn(share) as self.turn:
            self.has_turn.set()
            await self._told.wait()

    async def ends(self) -> None:
        self._told.set()
        await self.task
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def line(window: int = 1, clock: Clock | None = None) -> DispatchQueue:
    return DispatchQueue(lambda: window, clock or Clock())


async def test_no_more_are_on_offer_than_the_window_holds():
    dispatch = line(3)
    chunks = [Chunk(dispatch, LONG) for _ in range(5)]
    await settle()
    assert (dispatch.offered, dispatch.waiting) == (3, 2)
    await chunks[0].ends()
    assert (dispatch.offered, dispatch.waiting) == (3, 1)
    for chunk in chunks[1:]:
        await chunk.ends()
    assert (dispatch.offered, dispatch.waiting) == (0, 0)


async def test_the_turn_goes_round_by_caller_and_by_video():
    dispatch = line(1)
    first, *chunks = [Chunk(dispatch, share) for share in (LONG, LONG, LONG, SHORT, OTHER)]
    await settle()
    order = []
    await first.ends()
    while waiting := [chunk for chunk in chunks if not chunk.task.done()]:
        chunk = next(chunk for chunk in waiting if chunk.has_turn.is_set())
        order.append(chunks.index(chunk))
        await chunk.ends()
    assert order == [0, 3, 2, 1]


async def test_once_it_is_taken_up_the_next_is_offered_though_the_work_goes_on():
    dispatch = line(1)
    first, second = Chunk(dispatch, LONG), Chunk(dispatch, LONG)
    await settle()
    first.turn.admitted()
    await settle()
    assert second.has_turn.is_set()
    first.turn.admitted()
    assert dispatch.offered == 1
    await first.ends()
    await second.ends()
    assert dispatch.offered == 0


async def test_whoever_leaves_while_waiting_or_in_the_moment_of_its_turn_leaves_nothing_behind():
    dispatch = line(1)
    first, leaving, in_the_moment, last = (Chunk(dispatch, LONG) for _ in range(4))
    await settle()
    leaving.task.cancel()
    first.turn.end()
    in_the_moment.task.cancel()
    await settle()
    assert last.has_turn.is_set()
    assert (dispatch.offered, dispatch.waiting) == (1, 0)
    await last.ends()
    await first.ends()
    assert dispatch.offered == 0


async def test_refusals_of_one_moment_halve_the_window_once_and_later_ones_again_down_to_one():
    clock = Clock()
    dispatch = line(100, clock)
    turn = Turn(dispatch)
    assert dispatch.window == 4
    turn.refused()
    turn.refused()
    assert dispatch.window == 2
    clock.now = 1
    turn.refused()
    clock.now = 2
    turn.refused()
    assert dispatch.window == 1


async def test_the_window_grows_by_one_for_each_window_of_chunks_taken_up_and_not_beyond_the_most():
    dispatch = line(6)
    for expected in (4, 5, 6, 6):
        assert dispatch.window == expected
        for _ in range(expected + 1):
            dispatch.offered += 1
            Turn(dispatch).admitted()
