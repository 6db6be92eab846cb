"""The real placement over 1 to 16 real encoders, compared with an ideal central queue under the same arrivals."""

import asyncio
import itertools
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import structlog

from benchmarks.dispatch.alternatives import central_queue
from benchmarks.dispatch.fleet import Cpu, Fleet
from benchmarks.dispatch.ingress import Ingress
from benchmarks.dispatch.workload import BURSTS, MIXED, Chunk, Poisson

REPLICAS = (1, 2, 4, 8, 16)
LOADS = (0.8, 0.9)
SERVICE_MS = 22.6
# What the service time is multiplied by: so many, or one for each replica, so that cores are not the limit.
_LEAST_FACTOR = 4
_SECONDS = 20
_WARM_UP = 0.1


async def compare(replicas: int, *, half: bool, ingresses: int, seconds: float) -> None:
    """One row: closed loop at twice the permits, then an open loop at each of the loads."""
    factor = max(_LEAST_FACTOR, replicas)
    speeds = [0.5 if half and number == 0 else 1.0 for number in range(replicas)]
    service = SERVICE_MS * factor / 1000
    async with Fleet([1000 * service / speed for speed in speeds]) as fleet, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Ingress.over(fleet.addresses)) for _ in range(ingresses)]
        await _closed_loop(clients, 4 * replicas, 2.0)
        for client in clients:
            client.failures.clear()
        cpu = Cpu(fleet)
        rate = await _closed_loop(clients, 4 * replicas, seconds)
        columns = [f"{rate * service / sum(speeds):.1%}"]
        late: list[float] = []
        for load in LOADS:
            videos = replace(MIXED, pace_seconds=MIXED.pace_seconds * factor)
            arrivals = Poisson(videos, load * sum(speeds) / service, ingresses, seed=replicas)
            chunks = arrivals.chunks(seconds)
            late += await _open_loop(clients, chunks)
            ours = _p95(chunks, seconds)
            central_queue(chunks, speeds, service)
            ideal = _p95(chunks, seconds)
            columns.append(f"{1000 * ours:.0f} : {1000 * ideal:.0f} = {ours / ideal:.2f}")
        mine, others = cpu.shares()
        columns += [f"{1000 * np.percentile(late, 95):.0f} ms", f"{mine:.0%} + {others:.0%}"]
    failures = Counter(failure for client in clients for failure in client.failures)
    name = f"{replicas}, one at half speed" if half else f"{replicas}"
    print(f"| {name} | {ingresses} | {factor} | {' | '.join(columns)} | {failures.total()} |", flush=True)
    for failure, count in failures.items():
        print(f"{count} x {failure}", file=sys.stderr)


async def _closed_loop(clients: Sequence[Ingress], at_a_time: int, seconds: float) -> float:
    """Chunks a second while so many are always under way."""
    turns = itertools.cycle(Poisson(BURSTS, 1e6, len(clients)).chunks(0.01))
    start = time.perf_counter() + _WARM_UP * seconds
    end = start + seconds
    done = 0

    async def keep_going() -> None:
        nonlocal done
        while time.perf_counter() < end:
            chunk = next(turns)
            if await clients[chunk.ingress].encode(chunk):
                done += start <= time.perf_counter() < end

    await asyncio.gather(*(keep_going() for _ in range(at_a_time)))
    return done / seconds


async def _open_loop(clients: Sequence[Ingress], chunks: Sequence[Chunk]) -> list[float]:
    """Sets when each is done, from its arrival on; by how many seconds each was begun late: the machine's doing."""
    start = time.perf_counter()
    late = []

    async def encode(chunk: Chunk) -> None:
        late.append(time.perf_counter() - start - chunk.arrived)
        if await clients[chunk.ingress].encode(chunk):
            chunk.done = time.perf_counter() - start

    async with asyncio.TaskGroup() as tasks:
        for chunk in chunks:
            await asyncio.sleep(max(0.0, start + chunk.arrived - time.perf_counter()))
            tasks.create_task(encode(chunk))
    return late


def _p95(chunks: Sequence[Chunk], seconds: float) -> float:
    counted = [chunk.seconds for chunk in chunks if chunk.arrived >= _WARM_UP * seconds and chunk.done is not None]
    return float(np.percentile(counted, 95))


async def table(replicas: Sequence[int], seconds: float = _SECONDS) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    loads = " | ".join(f"p95 ms at {load:.0%} : ideal" for load in LOADS)
    print(f"| replicas | ingresses | factor | closed loop, of ideal | {loads} | late | CPU, ours + others | failed |")
    print("|---" * (7 + len(LOADS)) + "|")
    for count in replicas:
        await compare(count, half=False, ingresses=1, seconds=seconds)
        if count > 1:
            await compare(count, half=True, ingresses=1, seconds=seconds)
    await compare(max(replicas), half=False, ingresses=4, seconds=seconds)
