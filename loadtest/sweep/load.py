"""Closed and open loops: when the requests of one level are sent."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from loadtest.sweep.levels import Level

# Sends and records the request that was due at a time; returns whether it succeeded.
Send = Callable[[float], Awaitable[bool]]
# Records a request that was due but not sent, because too many were in flight.
Skip = Callable[[float], None]

clock = time.monotonic

# Callers that start together and are served in the same time would stay synchronised.
_STAGGER_SECONDS = 1.0
# The backoff of a caller whose request failed.
PAUSE_AFTER_ERROR_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Length:
    """A level lasts `seconds`, or less once `requests` were sent."""

    seconds: float
    requests: int | None = None


async def run(level: Level, length: Length, send: Send, skip: Skip, *, max_in_flight: int, seed: int) -> float:
    """Send all requests and wait for their answers; returns the time at which sending ended.

    Cancelling it cancels the requests in flight.
    """
    if level.kind == "closed":
        return await _closed(int(level.value), length, send)
    offsets = poisson(level.value, seed) if level.arrivals == "poisson" else fixed(level.value)
    return await _open(offsets, length, send, skip, max_in_flight)


def fixed(rate: float) -> Iterator[float]:
    """Seconds from the start, 1/`rate` apart."""
    number = 0
    while True:
        yield number / rate
        number += 1


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Independent callers, `rate` a second on average."""
    rng = random.Random(seed)
    now = 0.0
    while True:
        now += rng.expovariate(rate)
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


async def _open(offsets: Iterator[float], length: Length, send: Send, skip: Skip, max_in_flight: int) -> float:
    """Each request that is due within `length` is sent or skipped, however late."""
    begun = clock()
    slots = asyncio.Semaphore(max_in_flight)
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
