"""Beside tables worked out by hand from the controller's rules."""

import pytest

from tests.scaling.snapshots import NOW, ago, hpa, scaled_object
from videoanalysis.scaling.arithmetic import changes, fallback_count, furthest_step, wanted_replicas
from videoanalysis.scaling.snapshot import Fallback, Policy, Rescale, Rules


@pytest.mark.parametrize(
    ("demand", "existing", "wanted"),
    [
        (16, 1, 8),
        (6, 8, 3),
        (7, 3, 4),  # 3.5, rounded up
        (22, 10, 10),  # 10 % over is tolerated
        (22.1, 10, 12),  # a little more is not: 11.05, rounded up
        (18, 10, 10),  # 10 % under too
        (17.9, 10, 9),  # 8.95
        (2.2, 1, 1),
        (2.3, 1, 2),
        (0, 5, 0),
        (3, 0, 2),  # woken, no pod there yet
        (0, 0, 0),
    ],
)
def test_wants_the_demand_over_the_target_rounded_up_unless_it_is_within_a_tenth(demand, existing, wanted):
    assert wanted_replicas(demand, 2, existing, 0.1, 0.1) == wanted


def test_a_tolerance_of_its_own_per_direction():
    assert wanted_replicas(20.1, 2, 10, 0.1, 0) == 11
    assert wanted_replicas(18.5, 2, 10, 0, 0.1) == 10  # 9.25
    assert wanted_replicas(17.5, 2, 10, 0.2, 0) == 10


FOUR_PODS = Policy("Pods", 4, 15)
HALF = Policy("Percent", 50, 60)


@pytest.mark.parametrize(
    ("rules", "up", "down"),
    [
        (Rules(0, (FOUR_PODS,)), 14, 6),
        (Rules(0, (HALF,)), 15, 5),
        (Rules(0, (FOUR_PODS, HALF)), 15, 5),
        (Rules(0, (FOUR_PODS, HALF), "Min"), 14, 6),
        (Rules(0, (FOUR_PODS,), "Disabled"), 10, 10),
        (Rules(0, (Policy("Percent", 1, 15),)), 11, 9),  # 10.1 rounded up, 9.9 down
    ],
)
def test_of_several_policies_it_takes_the_widest_or_the_narrowest_or_stays(rules, up, down):
    assert furthest_step(10, rules, (), NOW, +1) == up
    assert furthest_step(10, rules, (), NOW, -1) == down


def test_what_was_done_within_the_period_counts():
    rules = Rules(0, (Policy("Pods", 1, 60),))

    assert furthest_step(4, rules, [(ago(30), 1)], NOW, -1) == 4
    assert furthest_step(4, rules, [(ago(61), 1)], NOW, -1) == 3
    assert furthest_step(4, Rules(0, (Policy("Pods", 4, 60),)), [(ago(30), 3)], NOW, +1) == 5


def test_a_policy_that_was_made_narrower_takes_nothing_back():
    rules = Rules(0, (Policy("Pods", 2, 60),))

    assert furthest_step(8, rules, [(ago(30), 7)], NOW, +1) == 8
    assert furthest_step(8, rules, [(ago(30), 7)], NOW, -1) == 8


def test_changes_are_told_by_the_sizes_before_and_after():
    known = hpa(rescales=(Rescale(ago(90), 2), Rescale(ago(60), 6), Rescale(ago(30), 5), Rescale(ago(10), 8)))

    assert changes(known, +1) == [(ago(60), 4), (ago(10), 3)]
    assert changes(known, -1) == [(ago(30), 1)]


@pytest.mark.parametrize(
    ("behavior", "at_two", "at_seven"),
    [("static", 5, 5), ("currentReplicas", 2, 7), ("currentReplicasIfHigher", 5, 7), ("currentReplicasIfLower", 2, 5)],
)
def test_a_fallback_is_a_count_or_the_present_one(behavior, at_two, at_seven):
    scaled = scaled_object(fallback=Fallback(3, 5, behavior))

    assert fallback_count(scaled, 2) == at_two
    assert fallback_count(scaled, 7) == at_seven


def test_a_fallback_stays_within_the_limits():
    assert fallback_count(scaled_object(fallback=Fallback(3, 50), max_replicas=10), 2) == 10
