import time

import pytest

from services.ingress.admission import Deadline
from services.ingress.dispatch.failures import FailedAttempt, NoLongerServed
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.retry import call
from tests.ingress.dispatch.behaviour import NAMES, SOON, Behaviour, replicas
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Overloaded, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason


async def test_a_refusal_moves_on_to_another_replica():
    behaviour = Behaviour(a=Overloaded("busy"), b=Overloaded("busy"))
    async with replicas() as pool:
        assert await call(pool, behaviour, Deadline.after(SOON)) == "ok from c"
    assert all(count <= 1 for count in behaviour.attempts.values())


async def test_when_all_refuse_the_call_is_repeated_until_one_accepts():
    full_twice = lambda attempt: Overloaded("busy") if attempt <= 2 else "ok"  # noqa: E731
    behaviour = Behaviour(a=full_twice, b=full_twice, c=full_twice)
    async with replicas(wait_seconds=0) as pool:  # a replica that refuses is available: wait_seconds does not apply
        assert (await call(pool, behaviour, Deadline.after(SOON))).startswith("ok")


async def test_a_replica_that_failed_is_tried_last_next_time():
    behaviour = Behaviour(a=lambda attempt: Unavailable("gone") if attempt == 1 else "ok")
    async with replicas(["a:1", "b:1"]) as pool:
        while not behaviour.attempts["a"]:
            await call(pool, behaviour, Deadline.after(SOON))
        for _ in range(20):
            assert await call(pool, behaviour, Deadline.after(SOON)) == "ok from b"


async def test_a_replica_that_comes_back_in_time_is_waited_for():
    behaviour = Behaviour(a=lambda attempt: Unavailable("gone") if attempt <= 4 else "ok")
    async with replicas(["a:1"]) as pool:
        assert await call(pool, behaviour, Deadline.after(SOON)) == "ok from a"


async def test_replicas_that_stay_away_make_the_service_unavailable():
    gone = Unavailable("connection refused")
    async with replicas(wait_seconds=0.1) as pool:
        with pytest.raises(Unavailable) as caught:
            await call(pool, Behaviour(a=gone, b=gone, c=gone), Deadline.after(SOON))
    assert caught.value.reason == ErrorReason.ENCODER_UNAVAILABLE
    assert "connection refused" not in caught.value.message


async def test_an_error_of_the_request_is_raised_at_once():
    behaviour = Behaviour(a=InvalidInput("bad"), b=InvalidInput("bad"), c=InvalidInput("bad"))
    async with replicas() as pool:
        with pytest.raises(InvalidInput):
            await call(pool, behaviour, Deadline.after(SOON))
    assert behaviour.attempts.total() == 1


async def test_work_that_crashes_every_replica_is_not_retried_for_ever():
    lost = FailedAttempt("it crashed")
    behaviour = Behaviour(a=lost, b=lost, c=lost)
    async with replicas(wait_seconds=60) as pool:
        with pytest.raises(Unavailable):
            await call(pool, behaviour, Deadline.after(SOON))
    assert behaviour.attempts.total() == 3


async def test_a_replica_of_another_model_is_passed_over():
    other = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)
    async with replicas() as pool:
        assert await call(pool, Behaviour(a=other, b=other), Deadline.after(SOON)) == "ok from c"


async def test_a_model_that_no_replica_serves_is_no_longer_served():
    other = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)
    async with replicas() as pool:
        with pytest.raises(NoLongerServed):
            await call(pool, Behaviour(a=other, b=other, c=other), Deadline.after(SOON))


async def test_a_model_may_still_be_served_while_a_replica_is_busy():
    other = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)
    busy_once = lambda attempt: Overloaded("busy") if attempt == 1 else "ok"  # noqa: E731
    async with replicas() as pool:
        assert await call(pool, Behaviour(a=other, b=other, c=busy_once), Deadline.after(SOON)) == "ok from c"


async def test_a_deadline_ends_the_wait():
    busy = Overloaded("busy")
    async with replicas() as pool:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await call(pool, Behaviour(a=busy, b=busy, c=busy), Deadline.after(0.2))
        assert time.monotonic() - started < 5


async def test_an_answer_that_all_give_and_that_waiting_does_not_change_is_passed_on():
    missing = Unavailable("no bank yet", reason=ErrorReason.BANK_NOT_READY)
    behaviour = Behaviour(a=missing, b=missing, c=missing)
    async with replicas(wait_seconds=60) as pool:
        with pytest.raises(Unavailable) as caught:
            await call(pool, behaviour, Deadline.after(SOON))
    assert caught.value is missing
    assert behaviour.attempts.total() == 3


async def test_the_least_busy_replica_is_tried_first():
    async with replicas() as pool:
        seen = []

        async def nested(replica: Replica, seconds: float) -> None:
            seen.append(replica.address)
            if len(seen) < 3:
                await call(pool, nested, Deadline.after(SOON))

        await call(pool, nested, Deadline.after(SOON))
    assert sorted(seen) == NAMES


# Several models side by side


OTHER = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)


async def test_a_replica_that_refused_a_model_is_tried_only_for_other_models():
    behaviour = Behaviour(a=OTHER)
    async with replicas(["a:1", "b:1"]) as pool:
        for _ in range(50):
            assert await call(pool, behaviour, Deadline.after(SOON), needs="sha256:1") == "ok from b"
        assert behaviour.attempts["a"] == 1
        behaviour.answers["a"] = "ok"
        answers = {await call(pool, behaviour, Deadline.after(SOON), needs="sha256:2") for _ in range(50)}
        assert answers == {"ok from a", "ok from b"}


async def test_a_refusal_is_ignored_when_no_other_replica_is_left():
    behaviour = Behaviour(a=lambda attempt: OTHER if attempt == 1 else "ok", b=lambda attempt: OTHER)
    async with replicas(["a:1", "b:1"]) as pool:
        with pytest.raises(NoLongerServed):
            await call(pool, behaviour, Deadline.after(SOON), needs="sha256:1")
        assert await call(pool, behaviour, Deadline.after(SOON), needs="sha256:1") == "ok from a"


async def test_a_model_whose_replicas_stay_unavailable_is_no_longer_served_if_others_answer():
    async with replicas(["a:1", "b:1"], wait_seconds=0.1) as pool:
        with pytest.raises(NoLongerServed):
            await call(pool, Behaviour(a=Unavailable("gone"), b=OTHER), Deadline.after(SOON), needs="sha256:1")


async def test_a_timeout_is_estimated_from_an_answer_that_is_no_success():
    missing = Unavailable("no bank yet", reason=ErrorReason.BANK_NOT_READY)
    service_time = LatencyEstimator(30)
    async with replicas(["a:1"]) as pool:
        with pytest.raises(Unavailable):
            await call(pool, Behaviour(a=missing), Deadline.after(SOON), service_time=service_time)
        assert service_time.attempt_timeout() == 2
        with pytest.raises(DeadlineExceeded):
            await call(pool, Behaviour(a=Overloaded("busy")), Deadline.after(0.1), service_time=LatencyEstimator(30))
        assert service_time.mean() < 1


async def test_a_final_answer_is_not_held_up_by_a_replica_that_hangs():
    missing = Unavailable("no bank yet", reason=ErrorReason.BANK_NOT_READY)
    behaviour = Behaviour(a=missing, b=FailedAttempt("no answer", timed_out=True))
    async with replicas(["a:1", "b:1"]) as pool:
        while not behaviour.attempts["b"]:
            with pytest.raises(Unavailable) as caught:
                await call(pool, behaviour, Deadline.after(SOON))
            assert caught.value is missing
        for _ in range(5):
            with pytest.raises(Unavailable):
                await call(pool, behaviour, Deadline.after(SOON))
        assert behaviour.attempts["b"] == 1
