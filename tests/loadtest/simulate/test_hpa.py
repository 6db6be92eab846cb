"""Compared with tables computed by hand from the rules of the controller."""

import pytest

from loadtest.simulate.autoscaler import Autoscaling, Hpa
from videoanalysis.scaling.arithmetic import Policy, Rules

AT_ONCE = Rules(0, (Policy("Percent", 900, 15), Policy("Pods", 100, 15)))


def rule(**changes: object) -> Autoscaling:
    plain = {"min_replicas": 1, "max_replicas": 100, "target": 2, "scale_up": AT_ONCE, "scale_down": AT_ONCE}
    return Autoscaling(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("current", "gauge", "wanted"),
    [
        (1, 16, 8),
        (8, 6, 3),
        (3, 7, 4),  # 7 / 2, rounded up
        (10, 22, 10),  # 10 % over is tolerated
        (10, 22.1, 12),  # a little more is not: 11.05, rounded up
        (10, 18, 10),  # 10 % under too
        (10, 17.9, 9),
        (1, 2.2, 1),
        (1, 2.3, 2),
        (5, 0, 1),
        (5, 1000, 100),
    ],
)
def test_wants_the_sum_over_the_target_rounded_up_unless_it_is_within_a_tenth(current: int, gauge: float, wanted: int):
    assert Hpa(rule()).sync(0, gauge, current) == wanted


def test_does_nothing_at_zero():
    assert Hpa(rule(min_replicas=0)).sync(0, 50, 0) == 0


def test_never_goes_below_one_by_itself():
    assert Hpa(rule(min_replicas=0)).sync(0, 0, 3) == 1


def test_changes_nothing_while_the_metric_cannot_be_read():
    assert Hpa(rule()).sync(0, None, 7) == 7


def test_a_count_outside_of_the_limits_is_corrected_even_without_a_metric():
    assert Hpa(rule(min_replicas=3, max_replicas=9)).sync(0, None, 12) == 9
    assert Hpa(rule(min_replicas=3, max_replicas=9)).sync(0, None, 1) == 3


def play(hpa: Hpa, gauges: list[float], current: int, every: float = 15) -> list[int]:
    counts = []
    for number, gauge in enumerate(gauges):
        current = hpa.sync(number * every, gauge, current)
        counts.append(current)
    return counts


def test_kubernetes_defaults_add_four_or_double_per_fifteen_seconds():
    defaults = Autoscaling(1, 100, 2)

    # 1 + 4, 5 x 2, 10 x 2, 20 x 2, and then what is wanted.
    assert play(Hpa(defaults), [100] * 5, current=1) == [5, 10, 20, 40, 50]


def test_eight_from_one_in_one_sync_needs_a_policy_of_its_own():
    assert Hpa(Autoscaling(1, 10, 2)).sync(0, 16, 1) == 5
    assert Hpa(rule(scale_up=Rules(0, (Policy("Pods", 7, 15),)))).sync(0, 16, 1) == 8


def test_kubernetes_defaults_keep_the_highest_recommendation_of_five_minutes():
    gauges = [16.0] + [2.0] * 24

    counts = play(Hpa(Autoscaling(1, 100, 2)), gauges, current=8)

    # Wanted at 0 s; at 300 s that is not within the window any more.
    assert counts == [8] * 20 + [1] * 5


def test_a_window_up_takes_its_lowest_recommendation():
    slow = rule(scale_up=Rules(30, AT_ONCE.policies))

    # At its first sync it takes the count that it finds for a recommendation; that leaves the window after 30 s.
    assert play(Hpa(slow), [4, 20, 10, 20, 20, 20], current=1) == [1, 1, 5, 5, 10, 10]


def test_a_policy_counts_the_changes_within_its_period():
    one_a_minute = rule(scale_down=Rules(0, (Policy("Pods", 1, 60),)))

    assert play(Hpa(one_a_minute), [2] * 10, current=5) == [4, 4, 4, 4, 3, 3, 3, 3, 2, 2]


def test_removed_replicas_do_not_count_against_added_ones():
    ups_and_downs = rule(scale_up=Rules(0, (Policy("Pods", 2, 60),)))
    hpa = Hpa(ups_and_downs)

    assert hpa.sync(0, 20, 4) == 6
    assert hpa.sync(15, 6, 6) == 3
    # The period began at 3 - 2 + 3 = 4 replicas.
    assert hpa.sync(30, 40, 3) == 6


@pytest.mark.parametrize(
    ("select", "up", "down"),
    [("Max", 15, 5), ("Min", 14, 6), ("Disabled", 10, 10)],
)
def test_of_several_policies_the_selected_one_limits_the_step(select: str, up: int, down: int):
    rules = Rules(0, (Policy("Pods", 4, 15), Policy("Percent", 50, 15)), select)  # type: ignore[arg-type]

    assert Hpa(rule(scale_up=rules)).sync(0, 1000, 10) == up
    assert Hpa(rule(scale_down=rules)).sync(0, 0, 10) == down


def test_percent_rounds_up_on_the_way_up_and_down_on_the_way_down():
    tenth = Rules(0, (Policy("Percent", 10, 15),))

    assert Hpa(rule(scale_up=tenth)).sync(0, 1000, 3) == 4  # 3.3
    assert Hpa(rule(scale_down=tenth)).sync(0, 0, 3) == 2  # 2.7


def test_each_direction_has_its_tolerance():
    sharp = Rules(0, AT_ONCE.policies, tolerance=0)

    assert Hpa(rule(scale_up=sharp)).sync(0, 20.1, 10) == 11
    assert Hpa(rule(scale_up=sharp)).sync(0, 18.5, 10) == 10
