import asyncio

import grpc
import pytest

from services.ingress.admission import Deadline
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.retry import call
from tests.ingress.announced import Announced
from tests.ingress.dispatch.behaviour import SOON, Behaviour, discovered
from videoanalysis.errors import DeadlineExceeded, Overloaded, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason


async def heard() -> None:
    """Until what was said has been acted upon."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_replica_that_is_added_is_asked_and_one_that_is_gone_is_not():
    discovery, behaviour = Announced("a:1"), Behaviour()
    async with discovered(discovery) as pool:
        assert await call(pool, behaviour, Deadline.after(SOON)) == "ok from a"
        discovery.say("b:1")
        await heard()
        for _ in range(5):
            assert await call(pool, behaviour, Deadline.after(SOON)) == "ok from b"


async def test_a_call_waits_for_the_first_replica_and_is_woken_when_it_is_there():
    discovery = Announced()
    async with discovered(discovery) as pool:
        waiting = asyncio.ensure_future(call(pool, Behaviour(), Deadline.after(SOON)))
        await asyncio.sleep(0.7)  # By now it looks about once a second.
        assert not waiting.done()
        discovery.say("a:1")
        await heard()
        assert waiting.done()
        assert await waiting == "ok from a"


async def test_a_call_that_all_have_refused_is_woken_by_a_new_replica():
    discovery, behaviour = Announced("a:1"), Behaviour(a=Overloaded("busy"))
    async with discovered(discovery) as pool:
        waiting = asyncio.ensure_future(call(pool, behaviour, Deadline.after(SOON)))
        await asyncio.sleep(0.3)
        discovery.say("a:1", "b:1")
        await heard()
        assert waiting.done()
        assert await waiting == "ok from b"


async def test_without_any_replica_the_service_is_unavailable_in_the_end():
    async with discovered(Announced(), wait_seconds=0.1) as pool:
        with pytest.raises(Unavailable) as caught:
            await call(pool, Behaviour(), Deadline.after(SOON))
        assert caught.value.reason == ErrorReason.ENCODER_UNAVAILABLE
        with pytest.raises(DeadlineExceeded):
            await call(pool, Behaviour(), Deadline.after(0.01))


async def test_an_attempt_in_progress_ends_at_a_replica_that_has_gone_and_then_its_channel_closes():
    discovery, entered, release = Announced("a:1"), asyncio.Event(), asyncio.Event()
    closed = grpc.ChannelConnectivity.SHUTDOWN
    seen = []

    async def attempt(replica: Replica, seconds: float) -> str:
        seen.append(replica)
        entered.set()
        await release.wait()
        assert replica.channel.get_state() is not closed
        return "done"

    async with discovered(discovery) as pool:
        waiting = asyncio.ensure_future(call(pool, attempt, Deadline.after(SOON)))
        await entered.wait()
        discovery.say()
        await heard()
        release.set()
        assert await waiting == "done"
        assert seen[0].channel.get_state() is closed
