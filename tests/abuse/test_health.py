"""Health answers every watcher, and a stop waits for no client."""

import asyncio
import signal
from contextlib import AsyncExitStack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import sleeper
from tests.abuse.http2 import connect
from tests.abuse.processes import Service, service
from videoanalysis import channels

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WATCH = "/grpc.health.v1.Health/Watch"
READINESS = health_pb2.HealthCheckRequest(service="readiness")
# Longer than a test may take: what is measured is that nothing waits for it.
LONG = {"write_seconds": 600, "grace_seconds": 600}


async def exits(started: Service) -> None:
    """Before gRPC gives up on a client, which takes 20 s."""
    started.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(started.process.wait(), 15) == 0


async def test_a_watcher_that_does_not_read_delays_no_other_no_new_channel_and_no_stop(tmp_path):
    async with service("tests.sleeper", tmp_path, **LONG) as started, connect(started.address, window=0) as client:
        for _ in range(20):
            await (await client.call(WATCH, READINESS.SerializeToString())).arrived.wait()
        async with channels.connect(started.address, while_ready=True) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(READINESS, timeout=60)
            assert (await watch.read()).status == SERVING
            answers = channel.unary_stream(sleeper.METHOD)(b"0", timeout=20)
            assert [answer async for answer in answers] == [b"asleep", b"awake"]
            started.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == NOT_SERVING
            assert await asyncio.wait_for(started.process.wait(), 30) == 0


async def test_every_watcher_of_many_gets_the_new_status(tmp_path):
    async with service("tests.sleeper", tmp_path) as started, AsyncExitStack() as stack:
        watches = []
        for _ in range(5):
            channel = await stack.enter_async_context(channels.connect(started.address))
            watches += [health_pb2_grpc.HealthStub(channel).Watch(READINESS, timeout=60) for _ in range(10)]
        assert {(await watch.read()).status for watch in watches} == {SERVING}
        started.process.send_signal(signal.SIGTERM)
        assert {(await watch.read()).status for watch in watches} == {NOT_SERVING}
        assert {await watch.read() for watch in watches} == {grpc.aio.EOF}


async def test_a_client_that_acknowledges_nothing_does_not_delay_the_stop(tmp_path):
    async with service("tests.sleeper", tmp_path, **LONG) as started, connect(started.address) as client:
        await (await client.call(WATCH, READINESS.SerializeToString())).arrived.wait()
        client.acknowledges = False
        await exits(started)


async def test_clients_that_do_not_read_their_answers_do_not_delay_the_stop(tmp_path):
    limits = {**LONG, "write_seconds": 0.5}
    async with service("tests.sleeper", tmp_path, **limits) as started, connect(started.address, window=0) as client:
        await client.call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"", end=False)
        for _ in range(5):
            await (await client.call(f"/{sleeper.SERVICE}/Fill", b"")).arrived.wait()
        await exits(started)


async def test_a_reading_client_gets_its_answer_during_the_stop_beside_one_that_does_not(tmp_path):
    async with (
        service("tests.sleeper", tmp_path, **LONG) as started,
        channels.connect(started.address) as channel,
        connect(started.address, window=0) as client,
    ):
        await (await client.call(WATCH, READINESS.SerializeToString())).arrived.wait()
        call = channel.unary_stream(sleeper.METHOD)(b"1.5", timeout=60)
        assert await call.read() == b"asleep"
        started.process.send_signal(signal.SIGTERM)
        assert await call.read() == b"awake"
        assert await asyncio.wait_for(started.process.wait(), 30) == 0


async def test_all_names_are_listed_with_their_status(tmp_path):
    async with service("tests.sleeper", tmp_path) as started, channels.connect(started.address) as channel:
        listed = await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=10)
    assert {name: answer.status for name, answer in listed.statuses.items()} == dict.fromkeys(
        ["", "liveness", "readiness", sleeper.SERVICE], SERVING
    )
