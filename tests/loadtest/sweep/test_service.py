import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.sweep.load import clock
from loadtest.sweep.mix import Video
from loadtest.sweep.service import Method, Service, Unreachable
from loadtest.target.access import Access
from tests.loadtest.fake_service import FakeService, serving

CLIP = Video("clip", "s3://b/clip.mp4", 1, 2, 20.0)


@asynccontextmanager
async def connected(
    *fakes: FakeService, method: Method = "unary", connections: int = 1, seconds: float = 10
) -> AsyncIterator[Service]:
    service = Service(
        [fake.address for fake in fakes],
        connections=connections,
        method=method,
        timeout_seconds=seconds,
        access=Access(token=lambda: "secret", caller="tester"),
    )
    async with service:
        await service.until_ready()
        yield service


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_an_answer_is_recorded_with_its_own_figures(method):
    async with serving(FakeService()) as fake, connected(fake, method=method) as service:
        request, has_answered = await service.call("2 at a time", CLIP, clock())
    assert has_answered
    assert (request.status, request.level, request.video, request.chunks) == ("OK", "2 at a time", "clip", 2)
    assert (request.video_seconds, request.bytes_read, request.accelerator_seconds) == (20, 5000, 0.25)
    assert request.download_queue_ms == pytest.approx(1)
    assert request.encode_compute_ms == pytest.approx(4)
    assert (request.sample_queue_ms, request.unattributed_ms) == (0, pytest.approx(0.5))
    assert request.server_total_ms == pytest.approx(10.5)
    assert fake.metadata["x-caller-id"] == "tester"
    assert fake.metadata["authorization"] == "Bearer secret"


async def test_a_stream_is_timed_to_its_first_chunk_and_to_its_last_message():
    async with serving(FakeService(0.1)) as fake, connected(fake, method="stream") as service:
        request, _ = await service.call("x", CLIP, clock())
    assert request.first_chunk_ms is not None
    assert request.latency_ms >= request.first_chunk_ms + 90


async def test_latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent():
    async with serving(FakeService()) as fake, connected(fake) as service:
        request, _ = await service.call("x", CLIP, clock() - 5)
    assert request.delay_ms == pytest.approx(5000, abs=500)
    assert request.latency_ms > request.delay_ms
    assert request.end_seconds - request.start_seconds == pytest.approx(request.latency_ms / 1000)


async def test_a_refusal_is_an_answer_with_its_reason_and_is_not_retried():
    fake = FakeService()
    fake.is_full = True
    async with serving(fake), connected(fake) as service:
        request, has_answered = await service.call("x", CLIP, clock())
    assert (request.status, request.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert request.error == "256 requests are waiting"
    assert has_answered
    assert fake.calls == 1
    assert request.video_seconds is None


async def test_an_expired_deadline_is_no_answer():
    async with serving(FakeService(30)) as fake, connected(fake, seconds=0.1) as service:
        request, has_answered = await service.call("x", CLIP, clock())
    assert (request.status, has_answered) == ("DEADLINE_EXCEEDED", False)


async def test_a_stream_without_a_summary_has_failed():
    fake = FakeService()
    fake.forgets_summary = True
    async with serving(fake), connected(fake, method="stream") as service:
        request, _ = await service.call("x", CLIP, clock())
    assert request.status == "INCOMPLETE"
    assert not request.is_ok


async def test_connections_are_separate_and_addresses_get_equal_shares():
    async with (
        serving(FakeService()) as one,
        serving(FakeService()) as two,
        connected(one, two, connections=3) as service,
    ):
        for _ in range(12):
            await service.call("x", CLIP, clock())
    assert (one.calls, two.calls) == (6, 6)
    assert (len(one.peers), len(two.peers)) == (3, 3)


async def test_requests_in_flight_are_counted():
    async with serving(FakeService(0.2)) as fake, connected(fake) as service:
        calls = [asyncio.create_task(service.call("x", CLIP, clock())) for _ in range(5)]
        await asyncio.sleep(0.1)
        assert service.in_flight == 5
        await asyncio.gather(*calls)
        assert service.in_flight == 0


async def test_the_first_analysis_returns_chunks_and_duration():
    async with serving(FakeService()) as fake, connected(fake) as service:
        answer = await service.first("s3://b/clip.mp4")
    assert (len(answer.chunks), answer.video_duration_seconds) == (2, 20)


async def test_an_address_without_a_listener_is_named():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    service = Service([address], connections=1, method="unary", timeout_seconds=1, access=Access(), ready_seconds=0.5)
    async with service:
        with pytest.raises(Unreachable, match=address):
            await service.until_ready()
