"""A long video by real processes, whose ingress is killed again and again under a client that goes on by itself."""

import asyncio
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from tests.rendering import calm_picture, render, steady
from videoanalysis.client import AsyncClient, Client
from videoanalysis.errors import ServiceError, Unavailable
from videoanalysis.stack.child_process import ChildProcess
from videoanalysis.stack.service_environment import Kind
from videoanalysis.stack.stack import Stack
from videoanalysis.video_analysis import Progress, VideoAnalysis

SECONDS = 64
KILLS = 20
# Seconds; only on a machine with much else to do.
LONG = 240
CUTS = [Fraction(number, 5) for number in range(17, 5 * SECONDS, 23)]
SETTINGS: dict[Kind, dict[str, object]] = {
    "ingress": {"max_videos": 1},
    "encoder": {"synthetic_image_size": 32, "synthetic_embedding_dim": 1152, "synthetic_service_ms": 80},
}
OPTIONS = {"stream_id": "me", "chunk_duration_seconds": 1, "frames_per_chunk": 4, "include_embeddings": True}

# Twenty starts of a process, a second each on a machine with nothing else to do.
pytestmark = pytest.mark.timeout(LONG + 60)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a minute.mp4"
    return render(path, steady(5, SECONDS), cuts=CUTS, draw=calm_picture)


def comparable(analysis: VideoAnalysis) -> bytes:
    """All that was answered, but for what is measured."""
    analysis.message.ClearField("timing")
    analysis.message.ClearField("usage")
    return analysis.message.SerializeToString(deterministic=True)


class Interruption:
    """Kills and restarts the ingress after each further chunk that the client receives, so many times."""

    def __init__(self, stack: Stack, times: int, end: Callable[[ChildProcess], object]) -> None:
        self._stack = stack
        (self._ingress,) = stack.services["ingress"]
        self._loop = asyncio.get_running_loop()
        self._times_left = times
        self._end = end
        self._heard_seconds = 0.0
        self._runs = threading.Event()
        self.retries: list[tuple[ServiceError, float]] = []

    async def analyze(self, uri: str) -> VideoAnalysis:
        def call() -> VideoAnalysis:
            with Client(self._stack.address) as client:
                return client.analyze(uri, on_progress=self._hear, on_retry=self._wait, timeout_seconds=LONG, **OPTIONS)

        return await asyncio.to_thread(call)

    # Called in the client's thread.

    def _hear(self, progress: Progress) -> None:
        if self._times_left and progress.analyzed_seconds > self._heard_seconds:
            self._times_left -= 1
            self._heard_seconds = progress.analyzed_seconds
            self._runs.clear()
            self._end(self._ingress)
            asyncio.run_coroutine_threadsafe(self._restart(), self._loop)

    def _wait(self, error: ServiceError, pause_seconds: float, resumes_at_seconds: float) -> None:
        self.retries.append((error, resumes_at_seconds))
        assert self._runs.wait(LONG)

    async def _restart(self) -> None:
        await self._ingress.wait()
        await self._stack.restart(self._ingress)
        self._runs.set()


async def whole(stack: Stack, uri: str) -> VideoAnalysis:
    async with AsyncClient(stack.address) as client:
        return await client.analyze(uri, timeout_seconds=LONG, **OPTIONS)


async def test_a_video_whose_ingress_is_killed_twenty_times_has_the_same_answer(clip):
    async with Stack(engine="synthetic", settings=SETTINGS) as stack:
        uri = await stack.upload(clip)
        unbroken = await whole(stack, uri)
        killer = Interruption(stack, KILLS, ChildProcess.kill)
        broken = await killer.analyze(uri)
    assert {type(error) for error, _ in killer.retries} == {Unavailable}
    resumed_at = [seconds for _, seconds in killer.retries]
    assert len(set(resumed_at)) == KILLS
    assert resumed_at == sorted(resumed_at)
    assert resumed_at[0] > 0
    assert len(unbroken.chunks) == SECONDS
    assert len(unbroken.scenes) > 10
    assert comparable(broken) == comparable(unbroken)


async def test_what_a_draining_ingress_cannot_finish_within_its_grace_the_next_one_does(clip):
    # The whole takes three seconds at least.
    settings: dict[Kind, dict[str, object]] = {
        "ingress": {**SETTINGS["ingress"], "grace_seconds": 0.5},
        "encoder": {**SETTINGS["encoder"], "synthetic_service_ms": 200},
    }
    async with Stack(engine="synthetic", settings=settings) as stack:
        uri = await stack.upload(clip)
        rollout = Interruption(stack, 1, ChildProcess.terminate)
        broken = await rollout.analyze(uri)
        unbroken = await whole(stack, uri)
    assert {type(error) for error, _ in rollout.retries} == {Unavailable}
    (resumed_at,) = {seconds for _, seconds in rollout.retries}
    assert resumed_at > 0
    assert comparable(broken) == comparable(unbroken)
