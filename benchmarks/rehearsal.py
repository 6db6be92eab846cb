"""The rehearsal's model beside the real services: python -m benchmarks.rehearsal [SECONDS]

Each row is a stack of real processes with a fixed number of replicas and encoders that only take their time, under
independent arrivals for SECONDS (default 150). The same arrivals are played in the model, whose service times are the
means of a few videos that had the same stack to themselves.
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
from pathlib import Path
from statistics import fmean

import numpy as np

from loadtest.rehearse.arrivals import Arrival, ChunkMix, poisson
from loadtest.rehearse.fleet import Start
from loadtest.rehearse.outcome import percentile
from loadtest.rehearse.plan import SERVICES, Deployed, Deployment, OpenLoad, Plan
from loadtest.rehearse.rehearsal import rehearse
from loadtest.rehearse.service_times import ServiceTimes
from loadtest.rehearse.videos import IngressLimits
from tests.rendering import render, steady
from videoanalysis.client import AsyncClient
from videoanalysis.stack import Stack

# Small pictures: it is about queues here, and the cores are few.
SIZE, FRAMES_A_SECOND, CHUNK_SECONDS = 32, 4, 10
ALONE, WARM_UP = 10, 3


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
    Case("one chunk, places scarce (4 at each of 2)", 2, 4, 8, 1.0, 5.5, {1: 1}),
]


async def analyse(client: AsyncClient, uri: str, due: float) -> float:
    """Seconds from when it was due until its answer."""
    await client.analyze(uri)
    return time.monotonic() - due


async def alone(client: AsyncClient, uri: str, encode_seconds: float) -> ServiceTimes:
    """What a video of one chunk takes when there is no other."""
    for _ in range(WARM_UP):
        await client.analyze(uri)
    timings, rests = [], []
    for _ in range(ALONE):
        began = time.monotonic()
        timing = (await client.analyze(uri)).timing
        timings.append(timing)
        stages = (timing.download, timing.sample, timing.encode, timing.decode)
        # Calls between the processes, and from here; the model has it all at the end.
        rests.append(time.monotonic() - began - sum(one.compute_seconds for one in stages))
    return ServiceTimes(
        download_seconds=fmean(timing.download.compute_seconds for timing in timings),
        sample_seconds=fmean(timing.sample.compute_seconds for timing in timings),
        upload_seconds=0.0,
        encode_seconds=fmean(timing.encode.compute_seconds for timing in timings),
        decode_seconds=fmean(timing.decode.compute_seconds for timing in timings),
        answer_seconds=fmean(rests),
    )


async def real(case: Case, arrivals: Sequence[Arrival], directory: Path) -> tuple[list[float], ServiceTimes]:
    stack = Stack(
        engine="synthetic",
        ingresses=case.ingresses,
        encoders=case.encoders,
        settings={
            "ingress": {"max_videos": case.max_videos},
            "encoder": {"synthetic_service_ms": 1000 * case.encode_seconds, "synthetic_image_size": SIZE},
        },
    )
    async with AsyncExitStack() as leaving:
        await leaving.enter_async_context(stack)
        uris = {}
        for chunks in case.mix:
            clip = render(directory / f"{chunks}.mp4", steady(FRAMES_A_SECOND, chunks * CHUNK_SECONDS))
            uris[chunks] = await stack.upload(clip)
        clients = [
            await leaving.enter_async_context(AsyncClient(ingress.address)) for ingress in stack.services["ingress"]
        ]
        times = await alone(clients[0], uris[1], case.encode_seconds)
        for client in clients:
            await client.analyze(uris[1])
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            calls = []
            for number, (at, chunks) in enumerate(arrivals, start=1):
                await asyncio.sleep(began + at - time.monotonic())
                # In turn, as the model has it.
                client = clients[number % len(clients)]
                calls.append(tasks.create_task(analyse(client, uris[chunks], began + at)))
        return [call.result() for call in calls], times


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
    return rehearse(Plan(deployment, OpenLoad(lambda: iter(arrivals), seconds), times, starts)).latencies


def row(case: Case, measured: np.ndarray, model: np.ndarray) -> str:
    cells = [case.name, str(len(measured))]
    for read in (np.mean, lambda values: percentile(values, 50), lambda values: percentile(values, 95)):
        ours, theirs = float(read(model)), float(read(measured))
        cells.append(f"{1000 * theirs:,.0f} : {1000 * ours:,.0f} ({ours / theirs - 1:+.1%})")
    return f"| {' | '.join(cells)} |"


def main(seconds: float) -> None:
    print("| stack | videos | mean ms, real : model | p50 | p95 |\n|---|---|---|---|---|")
    loads = []
    for number, case in enumerate(CASES):
        rate, chance = case.rate, random.Random(number)
        arrivals = list(
            poisson(lambda _, rate=rate: rate, highest=rate, seconds=seconds, mix=ChunkMix(case.mix), chance=chance)
        )
        with tempfile.TemporaryDirectory() as directory:
            latencies, times = asyncio.run(real(case, arrivals, Path(directory)))
        print(row(case, np.array(latencies), modelled(case, arrivals, seconds, times)), flush=True)
        print(f"  load {case.load:.2f}, {times}", file=sys.stderr)
        loads.append(os.getloadavg()[0])
    print(f"load average {min(loads):.1f} to {max(loads):.1f}", file=sys.stderr)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 150)
