"""Compared with tables computed by hand from the rules of the controller."""

import pytest

from videoanalysis.scaling.arithmetic import (
    Fallback,
    Policy,
    Rules,
    desired_replicas,
    stabilized,
    step_limit,
    zero_from,
)


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
    assert desired_replicas(demand, 2, existing) == wanted


def test_each_direction_has_its_tolerance():
    def tolerance(share):
        return Rules(0, (), tolerance=share)

    assert desired_replicas(20.1, 2, 10, up=tolerance(0)) == 11
    assert desired_replicas(18.5, 2, 10, down=tolerance(0)) == 10  # 9.25
    assert desired_replicas(17.5, 2, 10, up=tolerance(0), down=tolerance(0.2)) == 10


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
def test_of_several_policies_the_selected_one_limits_the_step(rules, up, down):
    assert step_limit(10, rules, (), 0, +1) == up
    assert step_limit(10, rules, (), 0, -1) == down


def test_changes_within_the_period_count():
    rules = Rules(0, (Policy("Pods", 1, 60),))

    assert step_limit(4, rules, [(-30, -1)], 0, -1) == 4
    assert step_limit(4, rules, [(-61, -1)], 0, -1) == 3
    assert step_limit(4, Rules(0, (Policy("Pods", 4, 60),)), [(-30, 3)], 0, +1) == 5


def test_the_count_at_the_start_of_a_period_takes_both_directions_into_account():
    # Two added, then three removed: the period started at 4 replicas.
    assert step_limit(3, Rules(0, (Policy("Pods", 2, 60),)), [(-45, 2), (-15, -3)], 0, +1) == 6


def test_a_policy_that_became_narrower_reverts_nothing():
    rules = Rules(0, (Policy("Pods", 2, 60),))

    assert step_limit(8, rules, [(-30, 7)], 0, +1) == 8
    assert step_limit(8, rules, [(-30, -7)], 0, -1) == 8


def test_a_window_keeps_the_lowest_recommendation_on_the_way_up_and_the_highest_on_the_way_down():
    window = Rules(60, ())
    past = [(-90, 1), (-45, 4), (-15, 6)]

    assert stabilized(9, 3, past, 0, window, Rules(0, ())) == 4
    assert stabilized(2, 7, past, 0, Rules(0, ()), window) == 6
    assert stabilized(2, 5, [], 0, window, window) == 2


def test_keda_scales_to_zero_after_the_cooldown_or_if_it_was_never_active_after_the_initial_one():
    assert zero_from(100, 0, 300, 90) == 400
    assert zero_from(None, 20, 300, 90) == 110


@pytest.mark.parametrize(
    ("behavior", "at_two", "at_seven"),
    [("static", 5, 5), ("currentReplicas", 2, 7), ("currentReplicasIfHigher", 5, 7), ("currentReplicasIfLower", 2, 5)],
)
def test_a_fallback_is_a_count_or_the_present_one(behavior, at_two, at_seven):
    fallback = Fallback(3, 5, behavior)

    assert fallback.replicas_at(2) == at_two
    assert fallback.replicas_at(7) == at_seven
