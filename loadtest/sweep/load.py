"""When requests are sent: closed and open loops.

`send` is told when its request was due, and answers whether it succeeded; it keeps the record itself.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from loadtest.sweep.levels import Level

Send = Callable[[float], Awaitable[bool]]
# Of a request that was due, but for which there was no room here.
Skip = Callable[[float], None]

clock = time.monotonic

# Callers that begin at the same instant, and are served in the same time, would stay in step for ever.
_STAGGER_SECONDS = 1.0
# Somebody who was refused at once does not call again a thousand times a second.
PAUSE_AFTER_ERROR_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Length:
    """Of one level: `seconds`, or fewer once `requests` were sent."""

    seconds: float
    requests: int | None = None


async def run(level: Level, length: Length, send: Send, skip: Skip, *, most_in_flight: int, seed: int) -> float:
    """Send everything and wait for the answers; returns the time at which the sending ended.

    Whoever cancels it cancels what is in flight.
    """
    if level.kind == "closed":
        return await _closed(int(level.value), length, send)
    offsets = poisson(level.value, seed) if level.arrivals == "poisson" else fixed(level.value)
    return await _open(offsets, length, send, skip, most_in_flight)


def fixed(rate: float) -> Iterator[float]:
    """Seconds from the start, 1/`rate` apart."""
    number = 0
    while True:
        yield number / rate
        number += 1


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Independent callers, `rate` a second on average."""
    chance = random.Random(seed)
    now = 0.0
    while True:
        now += chance.expovariate(rate)
        yield now


async def _closed(callers: int, length: Length, send: Send) -> float:
    begun = clock()
    left = length.requests
    ended: float | None = None

    def may_send() -> bool:
        nonlocal left, ended
        if ended is None and (left == 0 or clock() >= begun + length.seconds):
            ended = clock()
        if ended is None and left is not None:
            left -= 1
        return ended is None

    async def caller(number: int) -> None:
        await asyncio.sleep(number / callers * min(_STAGGER_SECONDS, length.seconds / 2))
        while may_send():
            if not await send(clock()):
                await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        for number in range(callers):
            tasks.create_task(caller(number))
    return clock() if ended is None else ended


async def _open(offsets: Iterator[float], length: Length, send: Send, skip: Skip, most_in_flight: int) -> float:
    """Every request that is due within `length` is sent or skipped, however late that is."""
    begun = clock()
    slots = asyncio.Semaphore(most_in_flight)
    sent = 0

    async def one(due: float) -> None:
        try:
            await send(due)
        finally:
            slots.release()

    async with asyncio.TaskGroup() as tasks:
        for offset in offsets:
            if offset >= length.seconds or sent == length.requests:
                break
            await asyncio.sleep(max(0.0, begun + offset - clock()))
            if await _acquired(slots, begun + length.seconds):
                tasks.create_task(one(begun + offset))
            else:
                skip(begun + offset)
            sent += 1
        else:
            raise AssertionError("arrivals never end")
        ended = clock() if sent == length.requests else begun + length.seconds
        await asyncio.sleep(max(0.0, ended - clock()))
    return ended


async def _acquired(slots: asyncio.Semaphore, until: float) -> bool:
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, until - clock())):
            await slots.acquire()
    except TimeoutError:
        return False
    return True
