"""Goodput and refusals of a local stack under three times its capacity.

    python -m benchmarks.overload [--seconds 30]

Real processes on loopback: one ingress, two encoders whose GPU is simulated by a fixed time for each chunk, and a
client with one connection that calls AnalyzeVideo without retrying. The capacity is measured on the same stack in a
closed loop just before. Answers are counted while the overload lasts, without its first seconds, when the queue fills.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import psutil

from tests.rendering import calm_picture, render, steady
from videoanalysis.channels import connect
from videoanalysis.errors import Overloaded
from videoanalysis.stack.stack import Stack
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

SERVICE_SECONDS = 0.2
ENCODERS = 2
TIMES_CAPACITY = 3
DEADLINE_SECONDS = 4.0
WARM_UP_SECONDS = 5.0


@dataclass
class Outcome:
    answered: list[float] = field(default_factory=list)  # seconds each
    answered_at: list[float] = field(default_factory=list)  # of time.perf_counter()
    refused: list[float] = field(default_factory=list)
    without_retry_info: int = 0
    failed: Counter[str] = field(default_factory=Counter)


async def call(stub: VideoAnalysisServiceStub, request: AnalyzeVideoRequest, outcome: Outcome) -> None:
    started = time.perf_counter()
    try:
        await stub.AnalyzeVideo(request, timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        failure = from_rpc_error(error)
        if isinstance(failure, Overloaded):
            outcome.refused.append(time.perf_counter() - started)
            outcome.without_retry_info += failure.retry_after_seconds <= 0
        else:
            outcome.failed[f"{error.code().name} {failure.reason_name}"] += 1
    else:
        outcome.answered.append(time.perf_counter() - started)
        outcome.answered_at.append(time.perf_counter())


async def closed_loop(stub: VideoAnalysisServiceStub, request: AnalyzeVideoRequest, seconds: float) -> float:
    """Answers a second with enough callers to keep every slot busy."""
    outcome = Outcome()
    until = time.perf_counter() + seconds

    async def caller() -> None:
        while time.perf_counter() < until:
            await call(stub, request, outcome)

    await asyncio.gather(*(caller() for _ in range(6)))
    return sum(at < until for at in outcome.answered_at) / seconds


async def open_loop(
    stub: VideoAnalysisServiceStub, request: AnalyzeVideoRequest, rate: float, seconds: float
) -> Outcome:
    """Poisson arrivals, independent of earlier answers."""
    outcome = Outcome()
    draws = random.Random(1)
    started = time.perf_counter()
    arrival = 0.0
    async with asyncio.TaskGroup() as tasks:
        while (arrival := arrival + draws.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, started + arrival - time.perf_counter()))
            tasks.create_task(call(stub, request, outcome))
    return outcome


async def main(seconds: float) -> None:
    settings = {
        "ingress": {"max_videos": 6},
        "encoder": {
            "synthetic_image_size": 32,
            "synthetic_embedding_dim": 64,
            "synthetic_service_ms": SERVICE_SECONDS * 1000,
        },
    }
    with tempfile.TemporaryDirectory() as directory:
        clip = Path(directory) / "clip.mp4"
        render(clip, steady(10, 1), draw=calm_picture)
        async with Stack(engine="synthetic", encoders=ENCODERS, settings=settings) as stack:
            request = AnalyzeVideoRequest(video_uri=await stack.upload(clip))
            ingress = psutil.Process(stack.services["ingress"][0].pid)
            async with connect(stack.address) as channel:
                stub = VideoAnalysisServiceStub(channel)
                await closed_loop(stub, request, WARM_UP_SECONDS)
                capacity = await closed_loop(stub, request, seconds)
                before = ingress.memory_info().rss
                psutil.cpu_percent()
                began = time.perf_counter()
                outcome = await open_loop(stub, request, TIMES_CAPACITY * capacity, seconds)
                cpu = psutil.cpu_percent()
                after = ingress.memory_info().rss
    ideal = ENCODERS / SERVICE_SECONDS
    refused = 1000 * np.array(outcome.refused or [0.0])
    answered = np.array(outcome.answered)
    print(f"capacity, closed loop: {capacity:.2f} videos/s, {capacity / ideal:.1%} of what the GPUs could do")
    print(
        f"offered: {TIMES_CAPACITY} x that for {seconds:g} s, each with {DEADLINE_SECONDS:g} s of time; CPU {cpu:.0f} %"
    )
    counted = sum(began + WARM_UP_SECONDS <= at < began + seconds for at in outcome.answered_at)
    goodput = counted / (seconds - WARM_UP_SECONDS)
    print(f"answered in time: {len(answered)}; {goodput:.2f} videos/s, {goodput / capacity:.1%} of capacity")
    print(f"  latency p50 {np.median(answered):.2f} s, p99 {np.percentile(answered, 99):.2f} s")
    print(f"refused: {len(outcome.refused)}, in {np.median(refused):.1f} ms, p99 {np.percentile(refused, 99):.1f} ms")
    print(f"  without RetryInfo: {outcome.without_retry_info}")
    print(f"admitted and then failed: {sum(outcome.failed.values())} {dict(outcome.failed)}")
    print(f"memory of the ingress: {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30)
    asyncio.run(main(parser.parse_args().seconds))
