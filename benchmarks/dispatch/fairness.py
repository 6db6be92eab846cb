"""What each of several ingresses gets of encoders that all of them saturate; every ingress and encoder is a process."""

import asyncio
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np
import structlog

from benchmarks.dispatch.fleet import Fleet
from benchmarks.dispatch.ingress import Ingress
from benchmarks.dispatch.workload import Chunk

_WARM_UP = 0.2


@dataclass(frozen=True, slots=True)
class Case:
    """`outstanding` chunks of each ingress at a time, one for every ingress: a video has up to six."""

    outstanding: tuple[int, ...]
    encoders: int
    service_ms: float

    def at(self, service_ms: float) -> "Case":
        return replace(self, service_ms=service_ms)


CASES = [
    Case((18, 6), 1, 500),
    Case((18, 1), 1, 500),
    Case((18, 6), 2, 500),
    Case((24, 12, 6, 6), 8, 500),
    Case((18, 6), 1, 22.6),
    Case((24, 12, 6, 1), 2, 45),
    Case((24, 12, 12, 6), 8, 180),
]


@dataclass(frozen=True, slots=True)
class Received:
    """What one ingress received: chunks a second, and how long a chunk took from its submission to its result."""

    rate: float
    mean_seconds: float
    p99_seconds: float


def received(times: Sequence[tuple[float, float]], begins: float, ends: float) -> Received:
    """Of chunks that were (submitted, done)."""
    took = [done - submitted for submitted, done in times if begins <= done < ends]
    if not took:
        return Received(0.0, float("inf"), float("inf"))
    return Received(len(took) / (ends - begins), float(np.mean(took)), float(np.percentile(took, 99)))


def ideal(case: Case, seconds: float) -> list[Received]:
    """A central queue that serves the ingresses in turn, without any message."""
    waiting = [deque([0.0] * count) for count in case.outstanding]
    times: list[list[tuple[float, float]]] = [[] for _ in case.outstanding]
    busy: list[tuple[float, int, float]] = []
    turn, now = 0, 0.0
    while now < seconds:
        while len(busy) < case.encoders and any(waiting):
            turn = (turn + 1) % len(waiting)
            if waiting[turn]:
                heappush(busy, (now + case.service_ms / 1000, turn, waiting[turn].popleft()))
        now, ingress, submitted = heappop(busy)
        times[ingress].append((submitted, now))
        waiting[ingress].append(now)
    return [received(one, _WARM_UP * seconds, seconds) for one in times]


async def measure(case: Case, seconds: float) -> list[Received]:
    async with Fleet([case.service_ms] * case.encoders) as fleet:
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.dispatch", "ingress", ",".join(fleet.addresses), str(count)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 26,  # bytes of a line
            )
            for count in case.outstanding
        ]
        for process in processes:
            assert process.stdout is not None
            await process.stdout.readline()
        starts = time.monotonic() + 0.5
        window = f"{starts} {starts + seconds}\n".encode()
        printed = await asyncio.gather(*(process.communicate(window) for process in processes))
    return [received(json.loads(out), starts + _WARM_UP * seconds, starts + seconds) for out, _ in printed]


async def ingress(addresses: str, outstanding: int) -> None:
    """The process of one ingress: prints "ready", reads the window in which it submits chunks, prints their times."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    times: list[tuple[float, float]] = []

    async def keep_going() -> None:
        while (submitted := time.monotonic()) < ends:
            if await client.encode(Chunk(video=0, ingress=0, arrived=0.0, work=1.0)):
                times.append((submitted, time.monotonic()))

    async with Ingress.over(addresses.split(",")) as client:
        print("ready", flush=True)
        starts, ends = map(float, sys.stdin.readline().split())
        await asyncio.sleep(starts - time.monotonic())
        callers = [asyncio.create_task(keep_going()) for _ in range(outstanding)]
        await asyncio.sleep(ends - time.monotonic())
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
    print(json.dumps(times))


async def table(seconds: float) -> None:
    print_head()
    for case in CASES:
        print_row(case, await measure(case, seconds))


def print_head() -> None:
    print("| encoders | ms a chunk | chunks outstanding of each ingress | of its fair share | p99 : ideal mean |")
    print("|---" * 5 + "|")


def print_row(case: Case, measured: Sequence[Received]) -> None:
    pairs = list(zip(measured, ideal(case, 400 * case.service_ms / 1000), strict=True))
    outstanding = ", ".join(map(str, case.outstanding))
    shares = ", ".join(f"{ours.rate / best.rate:.2f}" for ours, best in pairs)
    waits = ", ".join(f"{ours.p99_seconds / best.mean_seconds:.2f}" for ours, best in pairs)
    print(f"| {case.encoders} | {case.service_ms:g} | {outstanding} | {shares} | {waits} |", flush=True)
