import asyncio
import time
from collections import Counter

import grpc
import pytest

from services.ingress.deadline import Deadline
from services.ingress.discovery import Discovery, Static
from services.ingress.replica import Replica
from services.ingress.replicas import Lost, ModelGone, Replicas
from tests.ingress.announced import Announced
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Overloaded, Unavailable

NAMES = ["a:1", "b:1", "c:1"]
SOON = 20.0


class Behaviour:
    """What each replica does, in place of a call; counts the attempts."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.attempts: Counter[str] = Counter()

    async def __call__(self, replica: Replica, seconds: float) -> str:
        name = replica.address[0]
        self.attempts[name] += 1
        answer = self.answers.get(name, "ok")
        if callable(answer):
            answer = answer(self.attempts[name])
        if isinstance(answer, Exception):
            raise answer
        return f"{answer} from {name}"


def replicas(names: list[str] = NAMES, wait_seconds: float = 5.0) -> Replicas:
    return discovered(Static(names), wait_seconds)


def discovered(discovery: Discovery, wait_seconds: float = 5.0) -> Replicas:
    return Replicas("encoder", discovery, attempt_seconds=10, wait_seconds=wait_seconds)


async def test_a_refusal_moves_on_to_another_replica():
    behaviour = Behaviour(a=Overloaded("busy"), b=Overloaded("busy"))
    async with replicas() as pool:
        assert await pool.call(behaviour, Deadline.after(SOON)) == "ok from c"
    assert all(count <= 1 for count in behaviour.attempts.values())


async def test_when_all_refuse_it_asks_again_until_one_has_room():
    full_twice = lambda attempt: Overloaded("busy") if attempt <= 2 else "ok"  # noqa: E731
    behaviour = Behaviour(a=full_twice, b=full_twice, c=full_twice)
    async with replicas(wait_seconds=0) as pool:  # a refusal is a sign of life: waiting for room is not bounded by it
        assert (await pool.call(behaviour, Deadline.after(SOON))).startswith("ok")


async def test_a_replica_that_failed_is_asked_last_next_time():
    behaviour = Behaviour(a=lambda attempt: Unavailable("gone") if attempt == 1 else "ok")
    async with replicas(["a:1", "b:1"]) as pool:
        while not behaviour.attempts["a"]:
            await pool.call(behaviour, Deadline.after(SOON))
        for _ in range(20):
            assert await pool.call(behaviour, Deadline.after(SOON)) == "ok from b"


async def test_a_replica_that_comes_back_in_time_is_waited_for():
    behaviour = Behaviour(a=lambda attempt: Unavailable("gone") if attempt <= 4 else "ok")
    async with replicas(["a:1"]) as pool:
        assert await pool.call(behaviour, Deadline.after(SOON)) == "ok from a"


async def test_replicas_that_stay_away_make_the_service_unavailable():
    gone = Unavailable("connection refused")
    async with replicas(wait_seconds=0.1) as pool:
        with pytest.raises(Unavailable) as caught:
            await pool.call(Behaviour(a=gone, b=gone, c=gone), Deadline.after(SOON))
    assert caught.value.reason == "ENCODER_UNAVAILABLE"
    assert "connection refused" not in caught.value.message


async def test_what_the_caller_must_change_is_told_at_once():
    behaviour = Behaviour(a=InvalidInput("bad"), b=InvalidInput("bad"), c=InvalidInput("bad"))
    async with replicas() as pool:
        with pytest.raises(InvalidInput):
            await pool.call(behaviour, Deadline.after(SOON))
    assert behaviour.attempts.total() == 1


async def test_work_that_takes_down_every_replica_is_given_up():
    lost = Lost("it crashed")
    behaviour = Behaviour(a=lost, b=lost, c=lost)
    async with replicas(wait_seconds=60) as pool:
        with pytest.raises(Unavailable):
            await pool.call(behaviour, Deadline.after(SOON))
    assert behaviour.attempts.total() == 3


async def test_a_replica_of_another_model_is_passed_over():
    other = FailedPrecondition("other model", reason="MODEL_MISMATCH")
    async with replicas() as pool:
        assert await pool.call(Behaviour(a=other, b=other), Deadline.after(SOON)) == "ok from c"


async def test_a_model_that_nobody_serves_any_more_is_gone():
    other = FailedPrecondition("other model", reason="MODEL_MISMATCH")
    async with replicas() as pool:
        with pytest.raises(ModelGone):
            await pool.call(Behaviour(a=other, b=other, c=other), Deadline.after(SOON))


async def test_a_model_is_not_gone_while_a_replica_that_may_serve_it_is_busy():
    other = FailedPrecondition("other model", reason="MODEL_MISMATCH")
    busy_once = lambda attempt: Overloaded("busy") if attempt == 1 else "ok"  # noqa: E731
    async with replicas() as pool:
        assert await pool.call(Behaviour(a=other, b=other, c=busy_once), Deadline.after(SOON)) == "ok from c"


async def test_a_deadline_ends_the_wait():
    busy = Overloaded("busy")
    async with replicas() as pool:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await pool.call(Behaviour(a=busy, b=busy, c=busy), Deadline.after(0.2))
        assert time.monotonic() - started < 5


async def test_an_answer_that_all_give_and_that_waiting_does_not_change_is_passed_on():
    missing = Unavailable("no bank yet", reason="BANK_NOT_READY")
    behaviour = Behaviour(a=missing, b=missing, c=missing)
    async with replicas(wait_seconds=60) as pool:
        with pytest.raises(Unavailable) as caught:
            await pool.call(behaviour, Deadline.after(SOON))
    assert caught.value is missing
    assert behaviour.attempts.total() == 3


async def test_the_least_busy_replica_is_asked_first():
    async with replicas() as pool:
        seen = []

        async def nested(replica: Replica, seconds: float) -> None:
            seen.append(replica.address)
            if len(seen) < 3:
                await pool.call(nested, Deadline.after(SOON))

        await pool.call(nested, Deadline.after(SOON))
    assert sorted(seen) == NAMES


# Replicas that come and go


async def heard() -> None:
    """Until what was said has been acted upon."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_replica_that_is_added_is_asked_and_one_that_is_gone_is_not():
    discovery, behaviour = Announced("a:1"), Behaviour()
    async with discovered(discovery) as pool:
        assert await pool.call(behaviour, Deadline.after(SOON)) == "ok from a"
        discovery.say("b:1")
        await heard()
        for _ in range(5):
            assert await pool.call(behaviour, Deadline.after(SOON)) == "ok from b"


async def test_a_call_waits_for_the_first_replica_and_is_woken_when_it_is_there():
    discovery = Announced()
    async with discovered(discovery) as pool:
        call = asyncio.ensure_future(pool.call(Behaviour(), Deadline.after(SOON)))
        await asyncio.sleep(0.7)  # By now it looks about once a second.
        assert not call.done()
        discovery.say("a:1")
        await heard()
        assert call.done()
        assert await call == "ok from a"


async def test_a_call_that_all_have_refused_is_woken_by_a_new_replica():
    discovery, behaviour = Announced("a:1"), Behaviour(a=Overloaded("busy"))
    async with discovered(discovery) as pool:
        call = asyncio.ensure_future(pool.call(behaviour, Deadline.after(SOON)))
        await asyncio.sleep(0.3)
        discovery.say("a:1", "b:1")
        await heard()
        assert call.done()
        assert await call == "ok from b"


async def test_without_any_replica_the_service_is_unavailable_in_the_end():
    async with discovered(Announced(), wait_seconds=0.1) as pool:
        with pytest.raises(Unavailable) as caught:
            await pool.call(Behaviour(), Deadline.after(SOON))
        assert caught.value.reason == "ENCODER_UNAVAILABLE"
        with pytest.raises(DeadlineExceeded):
            await pool.call(Behaviour(), Deadline.after(0.01))


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
        call = asyncio.ensure_future(pool.call(attempt, Deadline.after(SOON)))
        await entered.wait()
        discovery.say()
        await heard()
        release.set()
        assert await call == "done"
        assert seen[0].channel.get_state() is closed


# Several models side by side


OTHER = FailedPrecondition("other model", reason="MODEL_MISMATCH")


async def test_a_replica_that_refused_a_model_is_not_asked_for_it_again_but_for_others():
    behaviour = Behaviour(a=OTHER)
    async with replicas(["a:1", "b:1"]) as pool:
        for _ in range(50):
            assert await pool.call(behaviour, Deadline.after(SOON), model_digest="sha256:1") == "ok from b"
        assert behaviour.attempts["a"] == 1
        behaviour.answers["a"] = "ok"
        answers = {await pool.call(behaviour, Deadline.after(SOON), model_digest="sha256:2") for _ in range(50)}
        assert answers == {"ok from a", "ok from b"}


async def test_a_refusal_is_forgotten_when_nobody_else_is_left_to_ask():
    behaviour = Behaviour(a=lambda attempt: OTHER if attempt == 1 else "ok", b=lambda attempt: OTHER)
    async with replicas(["a:1", "b:1"]) as pool:
        with pytest.raises(ModelGone):
            await pool.call(behaviour, Deadline.after(SOON), model_digest="sha256:1")
        assert await pool.call(behaviour, Deadline.after(SOON), model_digest="sha256:1") == "ok from a"


async def test_a_model_whose_replicas_stay_away_is_gone_if_others_answer():
    async with replicas(["a:1", "b:1"], wait_seconds=0.1) as pool:
        with pytest.raises(ModelGone):
            await pool.call(Behaviour(a=Unavailable("gone"), b=OTHER), Deadline.after(SOON), model_digest="sha256:1")
