import asyncio
import time
from collections import Counter

import grpc
import pytest

from services.ingress.admission.deadline import Deadline
from services.ingress.dispatch.discovery import Discovery, Static
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Gone, Lost, Replicas
from tests.ingress.announced import Announced
from tests.ingress.waiting import until
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Overloaded, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

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
    assert caught.value.reason == ErrorReason.ENCODER_UNAVAILABLE
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
    other = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)
    async with replicas() as pool:
        assert await pool.call(Behaviour(a=other, b=other), Deadline.after(SOON)) == "ok from c"


async def test_a_model_that_nobody_serves_any_more_is_gone():
    other = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)
    async with replicas() as pool:
        with pytest.raises(Gone):
            await pool.call(Behaviour(a=other, b=other, c=other), Deadline.after(SOON))


async def test_a_model_is_not_gone_while_a_replica_that_may_serve_it_is_busy():
    other = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)
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
    missing = Unavailable("no bank yet", reason=ErrorReason.BANK_NOT_READY)
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
        assert caught.value.reason == ErrorReason.ENCODER_UNAVAILABLE
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


OTHER = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)


async def test_a_replica_that_refused_a_model_is_not_asked_for_it_again_but_for_others():
    behaviour = Behaviour(a=OTHER)
    async with replicas(["a:1", "b:1"]) as pool:
        for _ in range(50):
            assert await pool.call(behaviour, Deadline.after(SOON), needs="sha256:1") == "ok from b"
        assert behaviour.attempts["a"] == 1
        behaviour.answers["a"] = "ok"
        answers = {await pool.call(behaviour, Deadline.after(SOON), needs="sha256:2") for _ in range(50)}
        assert answers == {"ok from a", "ok from b"}


async def test_a_refusal_is_forgotten_when_nobody_else_is_left_to_ask():
    behaviour = Behaviour(a=lambda attempt: OTHER if attempt == 1 else "ok", b=lambda attempt: OTHER)
    async with replicas(["a:1", "b:1"]) as pool:
        with pytest.raises(Gone):
            await pool.call(behaviour, Deadline.after(SOON), needs="sha256:1")
        assert await pool.call(behaviour, Deadline.after(SOON), needs="sha256:1") == "ok from a"


async def test_a_model_whose_replicas_stay_away_is_gone_if_others_answer():
    async with replicas(["a:1", "b:1"], wait_seconds=0.1) as pool:
        with pytest.raises(Gone):
            await pool.call(Behaviour(a=Unavailable("gone"), b=OTHER), Deadline.after(SOON), needs="sha256:1")


# Work that is offered


class Place:
    """What a replica does with an offer: `room` lets it in, `refuses` ends its wait, `ends` ends the work."""

    def __init__(self, refuses: Exception | None = None, ends: Exception | None = None) -> None:
        self.room = asyncio.Event()
        self.ends = ends
        self.hangs = False
        self.lingers = False
        self.left = asyncio.Event()
        self.refuses = refuses
        self.offers = 0
        self.waiting = 0
        self.done = 0


class Offered:
    def __init__(self, name: str, place: Place) -> None:
        self._name, self._place = name, place
        self._withdrawn = False
        self.seconds, self.other_chunks_in_flight = 1.0, 0
        place.offers += 1
        place.waiting += 1

    async def admitted(self) -> None:
        if self._place.refuses is not None:
            raise self._place.refuses
        try:
            await self._place.room.wait()
        finally:
            if self._place.lingers:
                await self._place.left.wait()

    async def result(self) -> str:
        if self._place.hangs:
            await asyncio.sleep(3600)
        if self._place.ends is not None:
            raise self._place.ends
        self._place.done += 1
        return f"done by {self._name}"

    def withdraw(self) -> None:
        self._place.waiting -= not self._withdrawn
        self._withdrawn = True


class Places:
    def __init__(self, **places: Place) -> None:
        self.places = places

    def __call__(self, replica: Replica) -> Offered:
        name = replica.address[0]
        return Offered(name, self.places[name])

    def offered(self) -> int:
        return sum(place.offers for place in self.places.values())

    def are_at_rest(self) -> bool:
        return not any(place.waiting for place in self.places.values())


async def place(pool: Replicas, places: Places, **options: object) -> str:
    options = {"deadline": Deadline.after(SOON), "service_time": LatencyEstimator(10), **options}
    return await pool.place(places, needs="", **options)


def with_room(**behaviour: object) -> Place:
    there = Place(**behaviour)
    there.room.set()
    return there


async def test_the_first_that_has_room_gets_the_work_and_the_other_is_told():
    places = Places(a=Place(), b=Place())
    admitted = []
    async with replicas(["a:1", "b:1"]) as pool:
        work = asyncio.ensure_future(place(pool, places, on_admitted=lambda: admitted.append(1)))
        await until(lambda: places.offered() == 2)
        places.places["b"].room.set()
        assert await work == "done by b"
        assert places.are_at_rest()
        assert [replica.in_flight for replica in pool.by_address.values()] == [0, 0]
    assert (places.places["a"].done, admitted) == (0, [1])


async def test_work_that_is_cancelled_while_offers_are_withdrawn_leaves_none_behind():
    places = Places(a=Place(), b=Place(), c=Place())
    async with replicas() as pool:
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.offered() == 3)
        for name in "bc":
            places.places[name].lingers = True
        places.places["a"].room.set()
        await until(lambda: sum(there.waiting for there in places.places.values()) == 2)  # the first is withdrawn
        for _ in "bc":
            work.cancel()
            await asyncio.sleep(0.01)
        await asyncio.wait([work], timeout=5)
        assert work.cancelled()
        assert places.are_at_rest()
        assert [replica.in_flight for replica in pool.by_address.values()] == [0, 0, 0]
        for name in "bc":
            places.places[name].left.set()


async def test_work_waits_at_three_where_all_are_busy_with_ours():
    names = [f"{letter}:1" for letter in "abcdef"]
    places = Places(**{name[0]: Place() for name in names})
    async with replicas(names) as pool:
        for replica in pool.by_address.values():
            replica.begin()
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.offered() == 3)
        await asyncio.sleep(0.1)
        assert places.offered() == 3
        work.cancel()
        await asyncio.wait([work])
        assert places.are_at_rest()


async def test_work_that_waits_is_offered_step_by_step_where_nothing_of_ours_is():
    names = [f"{letter}:1" for letter in "abcdefghijklmnopqrst"]
    places = Places(**{name[0]: Place() for name in names})
    busy = names[:3]
    async with replicas(names) as pool:
        for name in busy:
            pool.by_address[name].begin()
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.offered() == 16)
        await asyncio.sleep(0.1)
        assert places.offered() == 16
        assert not any(places.places[name[0]].offers for name in busy)
        work.cancel()
        await asyncio.wait([work])
        assert places.are_at_rest()


async def test_the_longer_work_usually_takes_the_longer_it_waits_before_the_next_is_asked():
    names = [f"{letter}:1" for letter in "abcdef"]
    places = Places(**{name[0]: Place() for name in names})
    takes_long = LatencyEstimator(1000)
    takes_long.observe(500)
    async with replicas(names) as pool:
        work = asyncio.ensure_future(place(pool, places, deadline=Deadline.after(1000), service_time=takes_long))
        await until(lambda: places.offered() == 3)
        await asyncio.sleep(0.1)
        assert places.offered() == 3
        work.cancel()
        await asyncio.wait([work])


async def test_one_that_did_our_work_last_is_asked_first():
    names = [f"{letter}:1" for letter in "abcdef"]
    places = Places(**{name[0]: with_room() for name in names})
    async with replicas(names) as pool:
        assert len({await place(pool, places) for _ in range(10)}) == 1


async def test_only_one_is_asked_if_it_has_room_at_once():
    places = Places(a=with_room(), b=with_room())
    async with replicas(["a:1", "b:1"]) as pool:
        await place(pool, places)
    assert places.offered() == 1


async def test_in_the_place_of_one_that_refuses_another_is_asked():
    places = Places(a=Place(refuses=Overloaded("full")), b=with_room())
    for _ in range(20):  # Which one is asked first is left to chance.
        async with replicas(["a:1", "b:1"]) as pool:
            assert await place(pool, places) == "done by b"
    assert places.places["a"].offers > 0


async def test_after_a_few_refusals_it_pauses_instead_of_asking_everybody():
    names = [f"{letter}:1" for letter in "abcdefgh"]
    places = Places(**{name[0]: Place(refuses=Overloaded("full", retry_after_seconds=0.5)) for name in names})
    refused = []
    async with replicas(names) as pool:
        work = asyncio.ensure_future(place(pool, places, on_refused=lambda: refused.append(1)))
        await until(lambda: len(refused) == 4)
        await asyncio.sleep(0.1)
        # Three are asked at a time, so some may have been asked before the fourth had refused.
        assert places.offered() <= 6
        for there in places.places.values():
            there.refuses = None
            there.room.set()
        assert (await work).startswith("done")


async def test_work_that_one_has_lost_is_done_by_another():
    places = Places(a=with_room(ends=Lost("it crashed")), b=Place())
    async with replicas(["a:1", "b:1"]) as pool:
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.places["a"].offers > 0)
        places.places["b"].room.set()
        assert await work == "done by b"
        assert places.are_at_rest()


async def test_work_that_takes_longer_than_it_ever_did_is_given_to_another():
    places = Places(a=with_room(), b=with_room())
    usual = LatencyEstimator(60)
    async with replicas(["a:1", "b:1"]) as pool:
        for _ in range(10):
            await pool.place(places, Deadline.after(SOON), needs="", service_time=usual)
        hanging = places.places["a"]
        hanging.hangs = True
        done_before = places.places["b"].done
        answers = await asyncio.gather(
            *(pool.place(places, Deadline.after(SOON), needs="", service_time=usual) for _ in range(4))
        )
        assert answers == ["done by b"] * 4
        assert places.places["b"].done == done_before + 4


async def test_work_that_takes_down_all_that_take_it_up_is_given_up():
    places = Places(**{name[0]: with_room(ends=Lost("it crashed")) for name in NAMES})
    async with replicas(wait_seconds=60) as pool:
        with pytest.raises(Unavailable) as caught:
            await place(pool, places)
    assert caught.value.reason == ErrorReason.ENCODER_UNAVAILABLE
    assert places.offered() == 3


async def test_what_the_caller_must_change_ends_the_offers():
    places = Places(a=with_room(ends=InvalidInput("bad")), b=with_room(ends=InvalidInput("bad")))
    async with replicas(["a:1", "b:1"]) as pool:
        with pytest.raises(InvalidInput):
            await place(pool, places)
    assert places.offered() == 1


async def test_a_model_that_every_replica_refuses_is_gone():
    places = Places(a=Place(refuses=OTHER), b=Place(refuses=OTHER))
    async with replicas(["a:1", "b:1"]) as pool:
        with pytest.raises(Gone):
            await place(pool, places)


async def test_one_that_failed_lately_is_offered_nothing_while_another_lets_work_wait():
    places = Places(a=Place(refuses=Unavailable("gone")), b=Place())
    async with replicas(["a:1", "b:1"]) as pool:
        pool.by_address["a:1"].failed()
        work = asyncio.ensure_future(place(pool, places))
        await asyncio.sleep(0.2)
        assert places.places["a"].offers == 0
        places.places["b"].room.set()
        assert await work == "done by b"


async def test_uploads_that_we_have_broken_off_ourselves_are_repeated_without_limit_or_blame():
    too_slow = DeadlineExceeded("0 of 10 bytes came", reason=ErrorReason.UPLOAD_TOO_SLOW)
    places = Places(a=with_room(ends=too_slow))
    async with replicas(["a:1"]) as pool:
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.places["a"].offers > 4)
        assert not pool.by_address["a:1"].is_avoided()
        places.places["a"].ends = None
        assert await work == "done by a"
