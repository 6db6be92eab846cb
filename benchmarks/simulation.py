"""The capacity simulation compared with the real services: python -m benchmarks.simulation [SECONDS]

Each row is a stack of real processes with fixed replicas and simulated GPUs, under independent arrivals for SECONDS
(default 150). The model gets the same arrivals, and as its service times the means of the same run. The waits are its
own.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np

from loadtest.simulate.arrivals import Arrival, ChunkMix, poisson
from loadtest.simulate.fleet import Start
from loadtest.simulate.ingresses import IngressLimits
from loadtest.simulate.outcome import percentile
from loadtest.simulate.plan import SERVICES, Deployed, Deployment, OpenLoad, Plan
from loadtest.simulate.service_times import ServiceTimes
from loadtest.simulate.simulation import simulate
from tests.rendering import render, steady
from videoanalysis.client import AsyncClient
from videoanalysis.stack.stack import Stack
from videoanalysis.video_analysis import Timing

# Small images: the benchmark is about queues, not about CPU.
SIZE, FRAMES_A_SECOND, CHUNK_SECONDS = 32, 4, 10
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    ingresses: int
    max_videos: int
    encoders: int
    encode_seconds: float
    rate: float  # videos a second
    mix: dict[int, float]

    @property
    def load(self) -> float:
        return self.rate * ChunkMix(self.mix).mean * self.encode_seconds / self.encoders


CASES = [
    Case("one chunk, encoders 75 % busy", 1, 16, 4, 0.8, 3.75, {1: 1}),
    Case("one chunk, encoders 90 % busy, 2 ingresses", 2, 16, 4, 0.8, 4.5, {1: 1}),
    Case("1 and 6 chunks, encoders 79 % busy, 2 ingresses", 2, 8, 4, 0.5, 2.8, {1: 3, 6: 1}),
    Case("one chunk, 4 slots at each of 2 ingresses", 2, 4, 8, 1.0, 4.3, {1: 1}),
]


@dataclass(frozen=True, slots=True)
class Answer:
    seconds: float  # from when the request was due
    chunks: int
    timing: Timing


async def analyse(client: AsyncClient, uri: str, due: float) -> Answer:
    analysis = await client.analyze(uri)
    return Answer(time.monotonic() - due, len(analysis.chunks), analysis.timing)


def service_times(answers: Sequence[Answer]) -> tuple[ServiceTimes, float]:
    """From videos of one chunk, in which no stages overlap; and the mean seconds outside of the service."""
    alone = [answer for answer in answers if answer.chunks == 1]
    timings = [answer.timing for answer in alone]
    times = ServiceTimes(
        download_seconds=fmean(timing.download.compute_seconds for timing in timings),
        sample_seconds=fmean(timing.sample.compute_seconds for timing in timings),
        upload_seconds=0.0,
        encode_seconds=fmean(timing.encode.compute_seconds for timing in timings),
        decode_seconds=fmean(timing.decode.compute_seconds for timing in timings),
        # There are no queues for samplers and decoders in these stacks: this is the time of calls between processes.
        answer_seconds=fmean(timing.sample.queue_seconds + timing.decode.queue_seconds for timing in timings),
    )
    return times, fmean(answer.seconds - answer.timing.total_seconds for answer in alone)


async def real(case: Case, arrivals: Sequence[Arrival], directory: Path) -> list[Answer]:
    stack = Stack(
        engine="synthetic",
        ingresses=case.ingresses,
        encoders=case.encoders,
        settings={
            "ingress": {"max_videos": case.max_videos},
            "encoder": {"synthetic_service_ms": 1000 * case.encode_seconds, "synthetic_image_size": SIZE},
        },
    )
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(stack)
        uris = {}
        for chunks in case.mix:
            clip = render(directory / f"{chunks}.mp4", steady(FRAMES_A_SECOND, chunks * CHUNK_SECONDS))
            uris[chunks] = await stack.upload(clip)
        clients = [
            await resources.enter_async_context(AsyncClient(ingress.address)) for ingress in stack.services["ingress"]
        ]
        for client in clients * WARM_UP:
            await client.analyze(uris[1])
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            calls = []
            for number, (at, chunks) in enumerate(arrivals, start=1):
                await asyncio.sleep(began + at - time.monotonic())
                # In turn, as in the model.
                client = clients[number % len(clients)]
                calls.append(tasks.create_task(analyse(client, uris[chunks], began + at)))
        return [call.result() for call in calls]


def modelled(case: Case, arrivals: Sequence[Arrival], seconds: float, times: ServiceTimes) -> np.ndarray:
    deployment = Deployment(
        {
            "ingress": Deployed(None, case.ingresses),
            "encoder": Deployed(None, case.encoders),
            "decoder": Deployed(None, 1),
        },
        IngressLimits(max_videos=case.max_videos),
    )
    starts = {service: Start() for service in SERVICES}
    return simulate(Plan(deployment, OpenLoad(lambda: iter(arrivals), seconds), times, starts)).latencies


def row(case: Case, measured: np.ndarray, model: np.ndarray) -> str:
    cells = [case.name, str(len(measured))]
    for read in (np.mean, lambda values: percentile(values, 50), lambda values: percentile(values, 95)):
        ours, theirs = float(read(model)), float(read(measured))
        cells.append(f"{1000 * theirs:,.0f} : {1000 * ours:,.0f} ({ours / theirs - 1:+.1%})")
    return f"| {' | '.join(cells)} |"


def constant(rate: float, _: float) -> float:
    return rate


def main(seconds: float) -> None:
    print("| stack | videos | mean ms, real : simulated | p50 | p95 |\n|---|---|---|---|---|")
    loads = []
    for number, case in enumerate(CASES):
        rate, rng = case.rate, random.Random(number)
        mix = ChunkMix(case.mix)
        arrivals = list(poisson(partial(constant, rate), highest=rate, seconds=seconds, mix=mix, rng=rng))
        with tempfile.TemporaryDirectory() as directory:
            answers = asyncio.run(real(case, arrivals, Path(directory)))
        times, outside = service_times(answers)
        measured = np.array([answer.seconds for answer in answers])
        print(row(case, measured, outside + modelled(case, arrivals, seconds, times)), flush=True)
        print(f"  load {case.load:.2f}, outside {outside:.3f}, {times}", file=sys.stderr)
        loads.append(os.getloadavg()[0])
    print(f"load average {min(loads):.1f} to {max(loads):.1f}", file=sys.stderr)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 150)
