"""Hours of mixed load with faults, in which nothing may fail or grow: python -m benchmarks.soak [--minutes 30]

Two ingresses, three encoders and two decoders as processes, with a simulated GPU. Poisson arrivals at 80 % of the
throughput that was measured at the start. Of the requests 5 % name a broken file, 5 % are cancelled and 5 % read
slowly; every minute a random replica is killed, and every five minutes all replicas of one service but the first are
replaced. The first replica of each service is never replaced: a leak shows in what it holds over time.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

from loadtest.target.clips import render
from videoanalysis.client import AsyncClient
from videoanalysis.errors import InvalidInput, ServiceError
from videoanalysis.stack.child_process import ChildProcess
from videoanalysis.stack.service_environment import Kind
from videoanalysis.stack.stack import Stack
from videoanalysis.video_analysis import Progress, VideoAnalysis

_ROOT = Path(__file__).parents[1]
_FOOTAGE = _ROOT.parent / "shared" / "videos"
_NAMES = ("mov_bbb.mp4", "mdn_flower.webm", "mdn_friday.mp4", "sam2_juggle.mp4", "seabirds.avi", "bbb_2500ms.ts")
_KINDS: tuple[Kind, ...] = ("ingress", "encoder", "decoder")
_CALIBRATION_SECONDS = 20
_CALIBRATION_CALLERS = 6
_LOAD = 0.8
_SAMPLE_SECONDS = 5
_WARM_UP_SECONDS = 120
_KILL_SECONDS = 60
_ROLLOUT_SECONDS = 300
_TIMEOUT_SECONDS = 300
_STOP_SECONDS = 60
_MEBI = 1 << 20


@dataclass
class Outcomes:
    """What became of the requests: a count of each kind, and the first unexpected failures."""

    counts: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    answers: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def failed(self, what: str) -> None:
        self.counts["unexpected"] += 1
        if len(self.unexpected) < 20:
            self.unexpected.append(what)

    def answered(self, uri: str, analysis: VideoAnalysis) -> None:
        """The same video must have the same answer, whichever replicas were lost."""
        answer = (analysis.tags, analysis.scene_changes, analysis.cuts, len(analysis.chunks))
        if self.answers.setdefault(uri, answer) != answer:
            self.failed(f"{uri}: another answer than before")


class Load:
    def __init__(self, client: AsyncClient, videos: list[str], broken: str) -> None:
        self.outcomes = Outcomes()
        self._client = client
        self._videos = videos
        self._broken = broken
        self._random = random.Random(1)

    async def throughput(self) -> float:
        """Requests a second of a few callers that always have a request in progress."""
        end, done = time.monotonic() + _CALIBRATION_SECONDS, 0

        async def caller() -> None:
            nonlocal done
            while time.monotonic() < end:
                await self._client.analyze(self._random.choice(self._videos), timeout_seconds=_TIMEOUT_SECONDS)
                done += 1

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(_CALIBRATION_CALLERS):
                group.create_task(caller())
        return done / (time.monotonic() - began)

    async def run(self, rate: float, seconds: float) -> None:
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            while (now := time.monotonic()) < end:
                group.create_task(self._request())
                await asyncio.sleep(min(self._random.expovariate(rate), max(0.0, end - now)))

    async def _request(self) -> None:
        kind = self._random.choices(("whole", "broken", "cancelled", "slow"), (85, 5, 5, 5))[0]
        self.outcomes.counts[kind] += 1
        uri, began = self._random.choice(self._videos), time.monotonic()
        try:
            match kind:
                case "broken":
                    await self._client.analyze(self._broken, timeout_seconds=_TIMEOUT_SECONDS)
                    self.outcomes.failed("a broken file was analysed")
                case "cancelled":
                    async with asyncio.timeout(self._random.uniform(0.01, 2)):
                        await self._client.analyze(uri, timeout_seconds=_TIMEOUT_SECONDS)
                case "slow":
                    on_progress = _dawdle
                    await self._client.analyze(uri, on_progress=on_progress, timeout_seconds=_TIMEOUT_SECONDS)
                case _:
                    self.outcomes.answered(uri, await self._client.analyze(uri, timeout_seconds=_TIMEOUT_SECONDS))
                    self.outcomes.seconds.append(time.monotonic() - began)
        except TimeoutError:
            pass
        except InvalidInput as error:
            if kind != "broken":
                self.outcomes.failed(f"{kind} {uri}: {error.reason_name}: {error}")
        except ServiceError as error:
            self.outcomes.failed(f"{kind} {uri}: {error.reason_name}: {error}")


def _dawdle(_: Progress) -> None:
    # Blocks the reading of all calls for a moment, as a busy program would.
    time.sleep(0.02)


class Faults:
    def __init__(self, stack: Stack) -> None:
        self.kills = self.rollouts = 0
        self._stack = stack
        self._random = random.Random(2)

    async def run(self) -> None:
        """Until it is cancelled."""
        began = time.monotonic()
        for minute in range(1, sys.maxsize):
            await asyncio.sleep(began + minute * _KILL_SECONDS - time.monotonic())
            if minute * _KILL_SECONDS % _ROLLOUT_SECONDS == 0:
                kind = _KINDS[self.rollouts % len(_KINDS)]
                for replica in self._stack.services[kind][1:]:
                    await self._replace(replica, gracefully=True)
                self.rollouts += 1
            else:
                kind = self._random.choice(_KINDS)
                await self._replace(self._random.choice(self._stack.services[kind][1:]), gracefully=False)
                self.kills += 1

    async def _replace(self, replica: ChildProcess, gracefully: bool) -> None:
        if gracefully:
            replica.terminate()
            async with asyncio.timeout(_STOP_SECONDS):
                await replica.wait()
        else:
            os.killpg(replica.pid, signal.SIGKILL)
        await self._stack.restart(replica)


class Holdings:
    """What the first replica of each service holds: memory, descriptors and threads with its children, and files."""

    columns = ("RSS MiB", "descriptors", "threads", "files", "shared memory MiB")

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._began = time.monotonic()
        self.samples: dict[Kind, list[tuple[float, ...]]] = {kind: [] for kind in _KINDS}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            for kind in _KINDS:
                sample = await asyncio.to_thread(self._sample, self._stack.services[kind][0].pid)
                self.samples[kind].append((time.monotonic() - self._began, *sample))

    def _sample(self, pid: int) -> tuple[float, ...]:
        rss, descriptors, threads, shared = 0.0, 0, 0, 0.0
        first = psutil.Process(pid)
        for process in [first, *first.children(recursive=True)]:
            try:
                memory = process.memory_info()
                rss, shared = rss + memory.rss / _MEBI, shared + memory.shared / _MEBI
                descriptors, threads = descriptors + process.num_fds(), threads + process.num_threads()
            except psutil.NoSuchProcess:
                continue
        files = sum(len(names) for _, _, names in os.walk(self._stack.directory))
        return rss, descriptors, threads, files, shared

    def table(self) -> list[str]:
        rows = [
            f"| first replica | {' | '.join(f'{column}: start, end, per hour' for column in self.columns)} |",
            "|---|" + "---|" * len(self.columns),
        ]
        for kind, samples in self.samples.items():
            late = np.array([sample for sample in samples if sample[0] > _WARM_UP_SECONDS] or samples[-2:])
            hours = late[:, 0] / 3600
            cells = []
            for column in range(1, late.shape[1]):
                values = late[:, column]
                slope = np.polyfit(hours, values, 1)[0] if len(values) > 2 else 0.0
                part = max(1, len(values) // 10)
                cells.append(f"{np.median(values[:part]):.0f}, {np.median(values[-part:]):.0f}, {slope:+.1f}")
            rows.append(f"| {kind} | {' | '.join(cells)} |")
        return rows


async def upload(stack: Stack, folder: Path) -> tuple[list[str], str]:
    """URIs of the videos, and of a file that is none."""
    paths = [path for name in _NAMES if (path := _FOOTAGE / name).exists()]
    paths += [_ROOT / "services" / "ingress" / "sources" / "sample_clip.mp4", render(folder / "rendered.mp4", 3)]
    broken = folder / "broken.mp4"
    broken.write_bytes(random.Random(3).randbytes(1 << 16))
    return [await stack.upload(path) for path in paths], await stack.upload(broken)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    stack = Stack(
        engine="synthetic",
        ingresses=2,
        encoders=3,
        decoders=2,
        settings={"encoder": {"synthetic_service_ms": 22.6, "synthetic_image_size": 384}},
    )
    async with stack:
        videos, broken = await upload(stack, stack.directory)
        addresses = ",".join(ingress.address for ingress in stack.services["ingress"])
        async with AsyncClient(f"ipv4:{addresses}") as client:
            load = Load(client, videos, broken)
            capacity = await load.throughput()
            faults, holdings = Faults(stack), Holdings(stack)
            disturbances = [asyncio.create_task(faults.run()), asyncio.create_task(holdings.run())]
            await load.run(_LOAD * capacity, 60 * minutes)
            for task in disturbances:
                task.cancel()
            await asyncio.wait(disturbances)
    outcomes, counts = load.outcomes, load.outcomes.counts
    requests = sum(counts[kind] for kind in ("whole", "broken", "cancelled", "slow"))
    middle, late = np.percentile(outcomes.seconds, [50, 99])
    print(
        f"{minutes:g} minutes, {requests} requests of {len(videos)} videos at {_LOAD * capacity:.2f}/s: "
        f"{counts['whole']} whole, {counts['slow']} read slowly, {counts['cancelled']} cancelled, "
        f"{counts['broken']} of a broken file; {faults.kills} kills, {faults.rollouts} rollouts. "
        f"Unexpected failures: {counts['unexpected']}. P50 {middle:.2f} s, P99 {late:.2f} s.\n"
    )
    print("\n".join([*outcomes.unexpected, *holdings.table()]))
    for task in disturbances:
        if not task.cancelled() and task.exception() is not None:
            sys.exit(f"the disturbances ended early: {task.exception()!r}")
    if counts["unexpected"]:
        sys.exit(1)


if __name__ == "__main__":
    asyncio.run(main())
