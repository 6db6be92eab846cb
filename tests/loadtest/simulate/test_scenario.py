from itertools import islice, pairwise
from pathlib import Path

import pytest

from loadtest.errors import InvalidOption
from loadtest.simulate.arrivals import DAY_SECONDS
from loadtest.simulate.plan import ClosedLoad, OpenLoad
from loadtest.simulate.scenario import Scenario, Traffic

OPEN = [Traffic.POISSON, Traffic.SPIKE, Traffic.DAY]


def opened(scenario: Scenario, seed: int = 1) -> OpenLoad:
    load = scenario.load(seed)
    assert isinstance(load, OpenLoad)
    return load


@pytest.mark.parametrize("traffic", OPEN)
def test_a_load_is_repeatable(traffic: Traffic):
    load = opened(Scenario(traffic))
    first = list(islice(load.arrive(), 500))

    assert first == list(islice(load.arrive(), 500))
    assert all(before[0] <= after[0] for before, after in pairwise(first))


@pytest.mark.parametrize("traffic", OPEN)
def test_another_seed_is_another_load(traffic: Traffic):
    scenario = Scenario(traffic)

    assert next(opened(scenario, 1).arrive()) != next(opened(scenario, 2).arrive())


def test_a_ramp_reports_the_second_half_of_each_level():
    load = Scenario(Traffic.RAMP, callers=[2, 4], seconds=600).load(1)

    assert isinstance(load, ClosedLoad)
    assert [(span.name, span.begins, span.ends) for span in load.spans] == [("2", 150, 300), ("4", 450, 600)]


def test_a_spike_has_its_factor():
    load = opened(Scenario(Traffic.SPIKE, rate=2, factor=10, seconds=1800, spike_begins=600, spike_seconds=300))
    times = [at for at, _ in load.arrive()]

    assert sum(600 <= at < 900 for at in times) == pytest.approx(6000, rel=0.05)
    assert [span.begins for span in load.spans] == [0, 600, 720, 900]


def test_a_day_lasts_a_day():
    load = opened(Scenario(Traffic.DAY, seconds=60))

    assert (load.seconds, load.spans[-1].ends) == (DAY_SECONDS, DAY_SECONDS)


def test_a_trace_is_replayed_as_recorded(tmp_path: Path):
    path = tmp_path / "requests.csv"
    path.write_text("start_seconds,chunks\n5,1\n9,6\n")

    load = opened(Scenario(Traffic.TRACE, trace=path))

    assert list(load.arrive()) == [(0, 1), (4, 6)]
    assert load.seconds == 4


def test_a_trace_must_be_named():
    with pytest.raises(InvalidOption, match="--trace"):
        Scenario(Traffic.TRACE).load(1)
