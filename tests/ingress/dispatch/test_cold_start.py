import asyncio
from pathlib import Path

import pytest

from services.ingress.admission import Deadline
from services.ingress.dispatch.cold_start import ColdStart
from services.ingress.dispatch.replicas import Replicas
from services.ingress.dispatch.retry import call
from tests.ingress.announced import Announced
from tests.ingress.waiting import until
from tests.rendering import calm_picture, render, steady
from tests.system import Engine, encoder, system
from videoanalysis.errors import Unavailable
from videoanalysis.v1.analysis_pb2 import STAGE_WAITING, AnalyzeVideoRequest, StreamAnalyzeVideoRequest


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_measured_from_the_first_call_to_the_first_replica():
    clock = Clock()
    start = ColdStart(clock)
    start.begin()
    clock.now += 10
    start.begin()  # It began with the first need.
    clock.now += 30
    assert start.is_under_way
    assert start.remaining() == 0
    start.end()
    assert not start.is_under_way
    start.end()  # One more that comes is no start.
    start.begin()
    assert start.remaining() == 40
    clock.now += 15
    assert start.remaining() == 25
    clock.now += 30
    assert start.remaining() == 0


async def test_where_there_are_none_they_are_waited_for_longer_than_where_they_are_away():
    async def away(replica, seconds):
        raise Unavailable("gone")

    limits = {"attempt_seconds": 5, "wait_seconds": 0.1, "cold_start_seconds": 30}
    discovery = Announced("a:1")
    async with Replicas("encoder", discovery, **limits) as pool:
        with pytest.raises(Unavailable):
            await call(pool, away, Deadline.after(20))
    discovery = Announced()
    async with Replicas("encoder", discovery, **limits) as pool:
        waiting = asyncio.ensure_future(call(pool, away, Deadline.after(20)))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        assert pool.cold_start.is_under_way
        discovery.publish("a:1")
        with pytest.raises(Unavailable):
            await waiting
        assert not pool.cold_start.is_under_way


async def test_a_stream_reports_that_there_is_no_encoder_yet_and_continues_when_there_is(tmp_path: Path):
    render(tmp_path / "clip.mp4", steady(10, 2), draw=calm_picture)
    request = StreamAnalyzeVideoRequest(analysis=AnalyzeVideoRequest(video_uri=f"file://{tmp_path}/clip.mp4"))
    discovery = Announced()
    async with system(tmp_path, discovery=discovery, cold_start_seconds=30) as running:
        call = running.stub.StreamAnalyzeVideo(request, timeout=30)
        events = []

        async def listen() -> None:
            events.extend([event async for event in call])

        listening = asyncio.ensure_future(listen())
        await until(lambda: running.demand.encoder > 0)
        await asyncio.sleep(1.5)
        assert not listening.done()
        async with encoder(Engine()) as late:
            discovery.publish(late.address)
            await listening
        waits = [event.progress for event in events if event.progress.stage == STAGE_WAITING]
        assert len(waits) > 1
        assert len(events[-1].summary.scenes) == 1
