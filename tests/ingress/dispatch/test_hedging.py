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
    """The scripted answers of a replica to an offer: `admits` it, `refuses` it, or `ends` its work with an error."""

    def __init__(self, refuses: Exception | None = None, ends: Exception | None = None) -> None:
        self.admits = asyncio.Event()
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
        self._cancelled = False
        self.seconds, self.other_chunks_in_flight = 1.0, 0
        place.offers += 1
        place.waiting += 1

    async def admitted(self) -> None:
        if self._place.refuses is not None:
            raise self._place.refuses
        try:
            await self._place.admits.wait()
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
        self._place.waiting -= not self._cancelled
        self._cancelled = True


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


def admitting(**behaviour: object) -> Site:
    there = Site(**behaviour)
    there.admits.set()
    return there


async def test_the_first_that_admits_the_work_gets_it_and_the_other_offer_is_cancelled():
    places = Places(a=Site(), b=Site())
    admitted = []
    async with replicas(["a:1", "b:1"]) as pool:
        work = asyncio.ensure_future(place(pool, places, on_admitted=lambda: admitted.append(1)))
        await until(lambda: places.offered() == 2)
        places.places["b"].admits.set()
        assert await work == "done by b"
        assert places.are_at_rest()
        assert [replica.in_flight for replica in pool.by_address.values()] == [0, 0]
    assert (places.places["a"].done, admitted) == (0, [1])


async def test_work_that_is_cancelled_while_offers_are_cancelled_leaves_none_behind():
    places = Places(a=Site(), b=Site(), c=Site())
    async with replicas() as pool:
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.offered() == 3)
        for name in "bc":
            places.places[name].lingers = True
        places.places["a"].admits.set()
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


async def test_work_waits_at_three_replicas_if_all_have_work_of_this_caller():
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


async def test_waiting_work_is_offered_one_by_one_to_replicas_without_work_of_this_caller():
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


async def test_the_interval_between_offers_grows_with_the_service_time():
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


async def test_the_replica_that_finished_work_last_is_offered_first():
    names = [f"{letter}:1" for letter in "abcdef"]
    places = Places(**{name[0]: admitting() for name in names})
    async with replicas(names) as pool:
        assert len({await place(pool, places) for _ in range(10)}) == 1


async def test_only_one_replica_is_offered_the_work_if_it_admits_at_once():
    places = Places(a=admitting(), b=admitting())
    async with replicas(["a:1", "b:1"]) as pool:
        await place(pool, places)
    assert places.offered() == 1


async def test_a_refused_offer_is_replaced_by_another():
    places = Places(a=Site(refuses=Overloaded("full")), b=admitting())
    for _ in range(20):  # The first replica is random.
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
            there.admits.set()
        assert (await work).startswith("done")


async def test_work_that_one_has_lost_is_done_by_another():
    places = Places(a=admitting(ends=FailedAttempt("it crashed")), b=Site())
    async with replicas(["a:1", "b:1"]) as pool:
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.places["a"].offers > 0)
        places.places["b"].admits.set()
        assert await work == "done by b"
        assert places.are_at_rest()


async def test_work_that_takes_longer_than_it_ever_did_is_given_to_another():
    places = Places(a=admitting(), b=admitting())
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


async def test_work_that_crashes_every_replica_is_not_retried_for_ever():
    places = Places(**{name[0]: admitting(ends=FailedAttempt("it crashed")) for name in NAMES})
    async with replicas(wait_seconds=60) as pool:
        with pytest.raises(Unavailable) as caught:
            await place(pool, places)
    assert caught.value.reason == ErrorReason.ENCODER_UNAVAILABLE
    assert places.offered() == 3


async def test_what_the_caller_must_change_ends_the_offers():
    places = Places(a=admitting(ends=InvalidInput("bad")), b=admitting(ends=InvalidInput("bad")))
    async with replicas(["a:1", "b:1"]) as pool:
        with pytest.raises(InvalidInput):
            await place(pool, places)
    assert places.offered() == 1


async def test_a_model_that_every_replica_refuses_is_no_longer_served():
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
        places.places["b"].admits.set()
        assert await work == "done by b"


async def test_uploads_that_were_too_slow_are_repeated_without_counting_as_failures():
    too_slow = DeadlineExceeded("0 of 10 bytes came", reason=ErrorReason.UPLOAD_TOO_SLOW)
    places = Places(a=admitting(ends=too_slow))
    async with replicas(["a:1"]) as pool:
        work = asyncio.ensure_future(place(pool, places))
        await until(lambda: places.places["a"].offers > 4)
        assert not pool.by_address["a:1"].is_avoided(time.monotonic())
        places.places["a"].ends = None
        assert await work == "done by a"


async def test_work_that_waits_is_offered_to_a_new_replica_at_once():
    discovery = Announced(*NAMES)
    places = Places(**{name[0]: Site() for name in NAMES}, d=admitting())
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
    places = Places(a=Site(refuses=Unresponsive("nothing came")), b=admitting())
    async with replicas(["a:1", "b:1"]) as pool:
        pool.by_address["b:1"].begin()  # so that the other comes first
        assert await place(pool, places) == "done by b"
        assert pool.by_address["a:1"].is_hung(time.monotonic())


async def test_no_work_begins_that_would_not_be_done_by_the_deadline():
    places = Places(a=admitting())
    slow = LatencyEstimator(100)
    slow.observe(50)
    async with replicas(["a:1"]) as pool:
        with pytest.raises(DeadlineExceeded) as caught:
            await place(pool, places, deadline=Deadline.after(10), service_time=slow)
    assert caught.value.reason == ErrorReason.DEADLINE_INFEASIBLE
    assert places.offered() == 0
