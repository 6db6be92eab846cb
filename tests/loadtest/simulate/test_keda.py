import pytest

from loadtest.simulate.autoscaler import Autoscaling, Keda
from videoanalysis.scaling.arithmetic import Fallback


def test_scales_from_zero_only_above_the_activation():
    keda = Keda(Autoscaling(0, 10, 2, activation=3))

    assert keda.poll(0, 3, 0) == 0
    assert keda.poll(30, 3.1, 0) == 1


def test_any_load_scales_from_zero_at_the_default_activation():
    assert Keda(Autoscaling(0, 10, 2)).poll(0, 1, 0) == 1


def test_scales_a_workload_to_its_minimum():
    assert Keda(Autoscaling(3, 10, 2)).poll(0, 0, 0) == 3
    assert Keda(Autoscaling(3, 10, 2)).poll(0, 9, 0) == 3


def test_leaves_everything_above_zero_to_the_hpa():
    assert Keda(Autoscaling(0, 10, 2)).poll(0, 100, 4) == 4


def test_scales_to_zero_after_the_cooldown_since_the_last_activity():
    keda = Keda(Autoscaling(0, 10, 2, polling_seconds=5, cooldown_seconds=10))
    assert keda.poll(0, 4, 2) == 2

    assert [keda.poll(at, 0, 2) for at in (5, 10)] == [2, 0]


def test_activity_restarts_the_cooldown():
    keda = Keda(Autoscaling(0, 10, 2, cooldown_seconds=10))

    assert [keda.poll(at, reading, 2) for at, reading in ((0, 4), (5, 0), (9, 1), (14, 0), (19, 0))] == [2, 2, 2, 2, 0]


def test_a_workload_that_was_never_active_scales_to_zero_after_the_initial_cooldown():
    assert Keda(Autoscaling(0, 10, 2)).poll(5, 0, 1) == 0
    patient = Keda(Autoscaling(0, 10, 2, initial_cooldown_seconds=60))

    assert [patient.poll(at, 0, 1) for at in (5, 59, 60)] == [1, 1, 0]


def test_never_scales_below_a_minimum_above_zero():
    keda = Keda(Autoscaling(1, 10, 2, cooldown_seconds=0))

    assert [keda.poll(at, 0, 1) for at in (0, 30, 60)] == [1, 1, 1]


def test_without_a_fallback_a_failing_source_changes_nothing():
    keda = Keda(Autoscaling(0, 10, 2, cooldown_seconds=5))

    assert [keda.poll(at, None, 2) for at in (0, 30, 60)] == [2, 2, 2]
    assert keda.metric(None, 2) is None


def test_falls_back_above_the_threshold_of_failures_and_resets_it_on_success():
    keda = Keda(Autoscaling(1, 10, 2, fallback=Fallback(2, 5)))

    assert [keda.metric(reading, 2) for reading in (None, None, None, 4, None)] == [None, None, 10, 4, None]


@pytest.mark.parametrize(
    ("behavior", "at_two", "at_eight"),
    [
        ("static", 5, 5),
        ("currentReplicas", 2, 8),
        ("currentReplicasIfHigher", 5, 8),
        ("currentReplicasIfLower", 2, 5),
    ],
)
def test_falls_back_to_the_replicas_of_its_behavior(behavior: str, at_two: int, at_eight: int):
    fallback = Fallback(0, 5, behavior)  # type: ignore[arg-type]

    assert Keda(Autoscaling(1, 10, 2, fallback=fallback)).metric(None, 2) == 2 * at_two
    assert Keda(Autoscaling(1, 10, 2, fallback=fallback)).metric(None, 8) == 2 * at_eight


def test_a_fallback_also_scales_from_zero():
    keda = Keda(Autoscaling(0, 10, 2, fallback=Fallback(2, 5)))

    assert [keda.poll(at, None, 0) for at in (0, 3, 6)] == [0, 0, 1]
