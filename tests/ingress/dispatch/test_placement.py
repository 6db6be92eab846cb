import pytest

from services.ingress.dispatch.placement import (
    MAX_OFFERS,
    MAX_REFUSALS,
    OFFERS,
    OfferSchedule,
    ReplicaState,
    choose,
    fastest_unit,
)

FASTEST = 1.0
NOW = 1000.0


class Site(ReplicaState):
    """A replica that a test can have avoided."""

    def __init__(self, in_flight: int = 0, avoided: bool = False) -> None:
        super().__init__()
        self.in_flight = in_flight
        self.avoided = avoided

    def is_avoided(self, now: float) -> bool:
        return self.avoided


def experienced(now: float = NOW, unit_seconds: float = FASTEST, other_chunks: int = 0) -> Site:
    one = Site()
    one.done(now, unit_seconds, 1, other_chunks)
    return one


def first(*sites: Site, now: float = NOW, **options: object) -> Site | None:
    chosen = {choose(sites, now, fastest=FASTEST, **options) for _ in range(20)}
    assert len(chosen) == 1
    return chosen.pop()


def test_the_one_with_less_of_our_work_comes_first():
    idle = Site()
    assert first(Site(1), idle, Site(2)) is idle


def test_of_two_with_as_much_the_one_whose_work_ends_sooner_comes_first():
    sooner, later = experienced(unit_seconds=2.0), experienced(unit_seconds=2.0)
    for site, at in ((sooner, NOW), (later, NOW + 0.5)):
        site.in_flight = 1
        site.admitted(at, 1)
    assert sooner.rank(NOW + 0.5, 2.0)[:2] == (1, 1.5)
    assert first(later, sooner, now=NOW + 0.5) is sooner


def test_longer_work_ends_later_in_proportion():
    one = Site(1)
    one.done(NOW, 8.0, 16, 0)
    one.admitted(NOW, 4)
    assert one.rank(NOW, 0.5)[1] == pytest.approx(2.0)


def test_a_slow_one_comes_last_and_before_it_one_that_had_other_work():
    free, shared, slow = experienced(), experienced(other_chunks=2), experienced(unit_seconds=1.5)
    assert first(slow, shared, free) is free
    assert first(slow, shared) is shared
    assert first(slow, experienced(NOW - 1, 1.3)) is not slow


def test_of_idle_ones_that_is_first_which_did_our_work_last():
    unknown, earlier, later = Site(), experienced(NOW - 0.1), experienced(unit_seconds=1.3)
    assert first(unknown, earlier, later) is later
    assert first(unknown, earlier) is earlier


def test_equal_ones_are_chosen_at_random():
    sites = [Site() for _ in range(4)]
    assert {choose(sites, NOW, fastest=FASTEST) for _ in range(200)} == set(sites)


def test_those_that_failed_or_refused_lately_come_last():
    failed, full, busy = Site(avoided=True), Site(), Site(3)
    full.refused(NOW, 0.5)
    assert first(failed, full, busy) is busy
    assert first(failed, full) is full
    assert first(failed) is failed
    assert not full.is_full(NOW + 0.5)


def test_while_others_hold_an_offer_those_that_failed_get_none():
    assert first(Site(avoided=True), open_offers=1) is None
    assert first(Site(avoided=True), refusals=1) is None


def test_beyond_a_few_offers_only_replicas_without_work_of_this_caller_get_one():
    idle, full = Site(), Site()
    full.refused(NOW, 1)
    assert first(Site(1), idle, full, open_offers=OFFERS) is idle
    assert first(Site(1), full, open_offers=OFFERS) is None
    assert first(Site(1), open_offers=OFFERS - 1) is not None


def test_offers_and_refusals_have_a_limit():
    assert first(Site(), open_offers=MAX_OFFERS) is None
    assert first(Site(), refusals=MAX_REFUSALS) is None


def test_the_fastest_is_that_of_those_that_are_known():
    assert fastest_unit([]) == fastest_unit([Site()]) == 0
    assert fastest_unit([Site(), experienced(unit_seconds=3.0), experienced(unit_seconds=2.0)]) == 2.0


def test_a_chunk_is_offered_to_one_then_to_three_then_to_one_more_at_each_interval():
    schedule = OfferSchedule(service_seconds=3.2)
    assert (schedule.wanted, schedule.delay) == (1, 0.002)
    schedule.waited(1)
    assert (schedule.wanted, schedule.delay) == (3, pytest.approx(0.1))
    schedule.waited(3)
    assert (schedule.wanted, schedule.delay) == (4, pytest.approx(0.1))


def test_a_refusal_is_replaced_and_adds_no_further_offer():
    schedule = OfferSchedule(0)
    schedule.waited(1)
    schedule.refused(3)
    assert schedule.wanted == 3


def test_the_interval_grows_while_none_is_left_and_a_new_replica_is_offered_the_chunk_at_once():
    schedule = OfferSchedule(0)
    for _ in range(20):
        schedule.none_chosen()
    schedule.waited(3)
    assert schedule.delay == 1.0
    schedule.replica_added(3)
    assert (schedule.wanted, schedule.delay) == (4, 0.002)
