"""Whole requests through real processes, compared with the baseline's decoder alone: python -m benchmarks.requests

A 60 s video of 1080p and one of 8.3 s at 384 x 384, from an S3 server on this machine, alone and with four callers. The
GPU is simulated: an encoder sleeps. Compared with the ffmpeg program in one pass to the same number of frames of
the same size, as the baseline calls it; the baseline does more than that for a request, so the ratios favour it.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clips import clip
from benchmarks.sampling import CHUNK, FRAMES, SIZE
from loadtest.target.local_stack import StackOptions, synthetic_stack
from loadtest.target.processes import Processes
from loadtest.target.source import CPU_SECONDS
from videoanalysis.client import AsyncClient
from videoanalysis.stack.stack import Stack

CALLERS = 4
SERVICES = ("ingress", "encoder", "decoder")


async def measure(
    request: Callable[[], Awaitable[Any]], requests: int, callers: int, cpu: Callable[[], float]
) -> tuple[float, float, float]:
    """Median seconds of a request, CPU seconds for each, and requests a second."""
    seconds: list[float] = []
    left = iter(range(requests))

    async def caller() -> None:
        for _ in left:
            began = time.monotonic()
            await request()
            seconds.append(time.monotonic() - began)

    used, start = cpu(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    elapsed = time.monotonic() - start
    return median(seconds), (cpu() - used) / requests, requests / elapsed


async def ffmpeg(path: Path) -> None:
    """As the baseline: all threads, frames of RGB through a pipe."""
    program = shutil.which("ffmpeg")
    if program is None:
        sys.exit("this benchmark needs the ffmpeg program")
    rate = f"fps={FRAMES}/{float(CHUNK):g},scale={SIZE}:{SIZE}"
    arguments = ["-v", "error", "-nostdin", "-i", str(path), "-an", "-vf", rate]
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "-pix_fmt", "rgb24", "-f", "rawvideo", "-", stdout=asyncio.subprocess.PIPE
    )
    frames, _ = await process.communicate()
    if process.returncode or not frames:
        sys.exit(f"ffmpeg failed on {path}")


def cpu_of_stack(stack: Stack) -> Callable[[], float]:
    processes = Processes(stack)

    def read() -> float:
        values = processes.read()
        return sum(values[f"{CPU_SECONDS}.{service}"] for service in SERVICES)

    return read


def cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


async def compare(stack: Stack, client: AsyncClient, path: Path, requests: int) -> None:
    uri = await stack.upload(path)

    async def ours() -> None:
        await client.analyze(uri)

    async def baseline() -> None:
        await ffmpeg(path)

    await ours()  # the processes of the sampling pool start
    for callers in (1, CALLERS):
        rows = {
            "ours, whole request": await measure(ours, requests, callers, cpu_of_stack(stack)),
            "ffmpeg alone, one pass": await measure(baseline, requests, callers, cpu_of_children),
        }
        theirs = rows["ffmpeg alone, one pass"]
        for way, row in rows.items():
            ratios = " | ".join(f"{own:.3g} | {own / other:.2f}" for own, other in zip(row, theirs, strict=True))
            print(f"| {path.name} | {callers} | {way} | {ratios} |", flush=True)


async def main() -> None:
    print("| clip | callers | way | P50 s | of ffmpeg | CPU s a request | of ffmpeg | requests/s | of ffmpeg |")
    print("|---|---|---|---|---|---|---|---|---|")
    stack = synthetic_stack(StackOptions(encoders=1), lambda _: None)
    async with stack, AsyncClient(stack.address) as client:
        await compare(stack, client, clip("1080p"), 6)
        await compare(stack, client, clip("384"), 40)


if __name__ == "__main__":
    asyncio.run(main())
