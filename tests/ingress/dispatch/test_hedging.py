import asyncio
import time

import pytest

from services.ingress.admission import Deadline
from services.ingress.dispatch import hedging
from services.ingress.dispatch.failures import FailedAttempt, NoLongerServed, Unresponsive
from services.ingress.dispatch.latency import LatencyEstimator
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Replicas
from tests.ingress.announced import Announced
from tests.ingress.dispatch.behaviour import NAMES, SOON, discovered, replicas
from tests.ingress.waiting import until
from videoanalysis.errors import DeadlineExceeded, FailedPrecondition, InvalidInput, Overloaded, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

OTHER = FailedPrecondition("other model", reason=ErrorReason.MODEL_MISMATCH)


class Site:
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
    def __init__(self, name: str, place: Site) -> None:
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

    def cancel(self) -> None:
        self._place.waiting -= not self._withdrawn
        self._withdrawn = True


class Places:
    def __init__(self, **places: Site) -> None:
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
    return await hedging.place(pool, places, needs="", **options)


def with_room(**behaviour: object) -> Site:
    there = Site(**behaviour)
    there.room.set()
    return there


async def test_the_first_that_has_room_gets_the_work_and_the_other_is_told():
    places = Places(a=Site(), b=Site())
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
    places = Places(a=Site(), b=Site(), c=Site())
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
    places = Places(**{name[0]: Site() for name in names})
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
    places = Places(**{name[0]: Site() for name in names})
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
    places = Places(**{name[0]: Site() for name in names})
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
    places = Places(a=Site(refuses=Overloaded("full")), b=with_room())
    for _ in range(20):  # Which one is asked first is left to chance.
        async with replicas(["a:1", "b:1"]) as pool:
            assert await place(pool, places) == "done by b"
    assert places.places["a"].offers > 0


async def test_after_a_few_refusals_it_backs_off_instead_of_trying_all():
    names = [f"{letter}:1" for letter in "abcdefgh"]
    places = Places(**{name[0]: Site(refuses=Overloaded("full", retry_after_seconds=0.5)) for name in names})
    async with replicas(names) as pool:
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.offered() >= 4)
        await asyncio.sleep(0.1)
        # Three are open at a time, so some may have been made before the fourth was refused.
        assert places.offered() <= 6
        for there in places.places.values():
            there.refuses = None
            there.room.set()
        assert (await work).startswith("done")


async def test_work_that_one_has_lost_is_done_by_another():
    places = Places(a=with_room(ends=FailedAttempt("it crashed")), b=Site())
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
            await hedging.place(pool, places, Deadline.after(SOON), needs="", service_time=usual)
        hanging = places.places["a"]
        hanging.hangs = True
        done_before = places.places["b"].done
        answers = await asyncio.gather(
            *(hedging.place(pool, places, Deadline.after(SOON), needs="", service_time=usual) for _ in range(4))
        )
        assert answers == ["done by b"] * 4
        assert places.places["b"].done == done_before + 4


async def test_work_that_takes_down_all_that_take_it_up_is_given_up():
    places = Places(**{name[0]: with_room(ends=FailedAttempt("it crashed")) for name in NAMES})
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
    places = Places(a=Site(refuses=OTHER), b=Site(refuses=OTHER))
    async with replicas(["a:1", "b:1"]) as pool:
        with pytest.raises(NoLongerServed):
            await place(pool, places)


async def test_one_that_failed_lately_is_offered_nothing_while_another_lets_work_wait():
    places = Places(a=Site(refuses=Unavailable("gone")), b=Site())
    async with replicas(["a:1", "b:1"]) as pool:
        pool.by_address["a:1"].unavailable()
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
        assert not pool.by_address["a:1"].is_avoided(time.monotonic())
        places.places["a"].ends = None
        assert await work == "done by a"


async def test_work_that_waits_is_offered_to_a_new_replica_at_once():
    discovery = Announced(*NAMES)
    places = Places(**{name[0]: Site() for name in NAMES}, d=with_room())
    async with discovered(discovery) as pool:
        for replica in pool.by_address.values():
            replica.begin()
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.offered() == 3)
        # By now it tries about once a second.
        await asyncio.sleep(0.5)
        discovery.publish(*NAMES, "d:1")
        assert await asyncio.wait_for(work, 0.4) == "done by d"


async def test_a_replica_that_sends_nothing_is_unresponsive_and_another_does_the_work():
    places = Places(a=Site(refuses=Unresponsive("nothing came")), b=with_room())
    async with replicas(["a:1", "b:1"]) as pool:
        pool.by_address["b:1"].begin()  # so that the other comes first
        assert await place(pool, places) == "done by b"
        assert pool.by_address["a:1"].is_hung(time.monotonic())


async def test_no_work_begins_that_would_not_be_done_by_the_deadline():
    places = Places(a=with_room())
    slow = LatencyEstimator(100)
    slow.observe(50)
    async with replicas(["a:1"]) as pool:
        with pytest.raises(DeadlineExceeded) as caught:
            await place(pool, places, deadline=Deadline.after(10), service_time=slow)
    assert caught.value.reason == ErrorReason.DEADLINE_INFEASIBLE
    assert places.offered() == 0
