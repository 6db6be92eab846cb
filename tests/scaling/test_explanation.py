"""Explanations of snapshots, computed by hand."""

from dataclasses import replace

import pytest

from loadtest.simulate.autoscaler import Autoscaling
from loadtest.simulate.autoscaler import Hpa as SimulatedHpa
from tests.scaling.snapshots import (
    ACTIVE,
    AT_ONCE,
    NOW,
    ago,
    gauges,
    hpa,
    pod,
    scaled_object,
    snapshot,
    workload,
)
from videoanalysis.scaling.arithmetic import SCALE_DOWN, Fallback, Policy, Rules
from videoanalysis.scaling.explanation import Explanation, explain
from videoanalysis.scaling.outlook import changes
from videoanalysis.scaling.snapshot import Condition, Rescale, Snapshot

NOT_READY = Condition(False, "TriggerError", "Triggers defined in ScaledObject are not working correctly")
NO_METRIC = Condition(False, "FailedGetExternalMetric", "the HPA was unable to compute the replica count")


def one(snapshot: Snapshot) -> Explanation:
    (explanation,) = explain(snapshot)
    return explanation


def codes(explanation: Explanation) -> list[str]:
    return [finding.code for finding in explanation.findings]


def wrong(explanation: Explanation) -> list[str]:
    return [finding.code for finding in explanation.findings if finding.is_wrong]


def text(explanation: Explanation, code: str) -> str:
    (found,) = (finding for finding in explanation.findings if finding.code == code)
    return f"{found.text} {found.remedy}".strip()


def not_ready(**changes) -> dict:
    return {"scaled_object": scaled_object(conditions={"Ready": NOT_READY}, **changes)}


# Each with its workload, the gauges of the ingress pods, the count for the demand, the next count, the findings after
# that of the demand, and whether it is healthy.
BY_THE_HPA = {
    "at rest": (workload(1), (2,), 1, 1, ["WANTED"], True),
    "idle at the minimum": (workload(1), (0,), 0, 1, ["WANTED", "AT_MINIMUM"], True),
    "within the tolerance": (workload(10), (11, 11), 10, 10, ["WITHIN_TOLERANCE"], True),
    "up at once": (workload(2), (5, 4), 5, 5, ["WANTED"], True),
    # 14 / 2 = 7 from 1: the larger of +4 and +100 %.
    "up by a step": (workload(1), (14,), 7, 5, ["WANTED", "STEP_LIMITED"], True),
    "above the maximum": (workload(10), (31,), 16, 10, ["WANTED", "AT_MAXIMUM"], False),
    "above the maximum, not there yet": (workload(8), (31,), 16, 10, ["WANTED", "AT_MAXIMUM"], False),
    "held up": (workload(6), (3,), 2, 6, ["WANTED", "HELD_UP"], True),
    "down at once": (workload(6, hpa=hpa(scale_down=AT_ONCE)), (3,), 2, 2, ["WANTED"], True),
    "scaling down is disabled": (
        workload(6, hpa=hpa(scale_down=replace(SCALE_DOWN, select="Disabled"))),
        (3,),
        2,
        6,
        ["WANTED", "SCALE_DOWN_DISABLED"],
        True,
    ),
    "scaling up is disabled": (
        workload(2, hpa=hpa(scale_up=replace(AT_ONCE, select="Disabled"))),
        (9,),
        5,
        2,
        ["WANTED", "SCALE_UP_DISABLED"],
        True,
    ),
    "scaled by hand above the maximum": (workload(12), (3,), 2, 10, ["WANTED", "OUTSIDE_LIMITS"], True),
}


@pytest.mark.parametrize(
    ("workload", "depths", "wanted", "expected", "found", "is_healthy"), BY_THE_HPA.values(), ids=BY_THE_HPA
)
def test_what_the_hpa_does(workload, depths, wanted, expected, found, is_healthy):
    explanation = one(snapshot(workload, *depths))

    assert (explanation.demand, explanation.wanted, explanation.expected) == (sum(depths), wanted, expected)
    assert codes(explanation) == ["DEMAND", *found]
    assert explanation.is_healthy == is_healthy


@pytest.mark.parametrize("select", ["Max", "Min", "Disabled"])
@pytest.mark.parametrize("window", [0, 300])
@pytest.mark.parametrize("policies", [(("Pods", 2),), (("Percent", 40),), (("Pods", 1), ("Percent", 100))], ids=str)
def test_it_expects_the_count_that_the_simulated_hpa_sets(policies, window, select):
    """The HPA of the capacity simulation is itself compared with a real one."""
    rules = Rules(window, tuple(Policy(kind, value, 15) for kind, value in policies), select)
    rule = Autoscaling(2, 9, 2, scale_up=rules, scale_down=rules)

    for replicas in range(1, 12):
        for demand in range(30):
            limits = hpa(min_replicas=2, scale_up=rules, scale_down=rules, max_replicas=9)
            explanation = one(snapshot(workload(replicas, hpa=limits), demand))
            # At its first sync the HPA takes the present count as a recommendation.
            assert explanation.expected == SimulatedHpa(rule).sync(0, demand, replicas), (replicas, demand)


def test_the_demand_is_reported_per_ingress_pod_and_in_all():
    explanation = one(snapshot(workload(5), 5, 0, 4, gauges=gauges(5, 0, 4, draining=1)))

    assert text(explanation, "DEMAND") == (
        "9 in all: 5 at va-ingress-0, 0 at va-ingress-1, 4 at va-ingress-2 (draining)."
    )
    assert text(explanation, "WANTED") == "2 per replica: 9 / 2 = 4.5, rounded up 5."


def test_the_tolerance_is_reported_with_the_deviation():
    assert text(one(snapshot(workload(10), 21)), "WITHIN_TOLERANCE") == (
        "2 per replica: 21 / 2 would be 11, but 10 replicas are at 105% of their target, and the HPA leaves it at 10 "
        "within its tolerance."
    )


def test_a_stabilization_window_is_reported_with_its_recommendation_and_end():
    stabilized = Condition(True, "ScaleDownStabilized", "recent recommendations were higher than current one")
    held = hpa(last_scale=ago(120), conditions={"AbleToScale": stabilized, "ScalingActive": ACTIVE})

    explanation = one(snapshot(workload(6, hpa=held), 3))

    # Scaled at 9:58:00; a window of 5 minutes.
    assert text(explanation, "HELD_UP") == (
        "A recommendation of 6 or more holds it: the latest known is of 09:58:00 UTC, when it was last scaled, and "
        "each counts for 5 min."
    )
    assert explanation.next == (
        "Not before 10:03:00 UTC (in 3 min) and, if the demand stays the same, by 10:05:00 UTC (in 5 min) it goes to 2."
    )


def test_a_window_after_an_unknown_recommendation_ends_after_its_length():
    explanation = one(snapshot(workload(6, hpa=hpa(last_scale=ago(3600))), 3))

    assert explanation.next == "If the demand stays the same, by 10:05:00 UTC (in 5 min) it goes to 2."


def test_after_the_window_the_policies_still_limit_the_step():
    one_a_minute = Rules(300, (Policy("Pods", 1, 60),))

    explanation = one(snapshot(workload(6, hpa=hpa(scale_down=one_a_minute)), 3))

    assert text(explanation, "STEP_LIMITED") == "One step down is 1 per 1 min: from 6 to 5 at most."
    assert explanation.next.endswith("it goes to 5.")


def test_a_window_of_scaling_up_holds_the_count_down():
    slow = replace(AT_ONCE, stabilization_seconds=60)

    explanation = one(snapshot(workload(2, hpa=hpa(scale_up=slow)), 12))

    assert "A recommendation of 2 or less" in text(explanation, "HELD_DOWN")
    assert explanation.next == "If the demand stays the same, by 10:01:00 UTC (in 1 min) it goes to 6."


def test_a_step_within_the_period_of_the_policy_is_used_up():
    two = Rules(0, (Policy("Pods", 2, 60),))
    stepped = hpa(scale_up=two, rescales=(Rescale(ago(300), 1), Rescale(ago(20), 3)))

    explanation = one(snapshot(workload(3, hpa=stepped), 18))

    assert explanation.expected == 3
    assert text(explanation, "STEP_LIMITED") == "One step up is 2 per 1 min: from 3 the last step has used it up."
    assert explanation.next == "It stays at 3 until the period of the last step is over."


def test_changes_are_the_differences_of_the_known_sizes():
    known = hpa(rescales=(Rescale(ago(90), 2), Rescale(ago(60), 6), Rescale(ago(30), 5)))

    assert changes(known) == [(ago(60).timestamp(), 4), (ago(30).timestamp(), -1)]


def test_a_fallback_stays_within_the_limits():
    assert one(snapshot(workload(2, **not_ready(fallback=Fallback(3, 50))), 1)).next.endswith("goes to 10.")


def test_several_policies_are_reported_with_the_one_that_counts():
    assert text(one(snapshot(workload(1), 14)), "STEP_LIMITED") == (
        "One step up is 100 % per 15 s or 4 per 15 s, the larger: from 1 to 5 at most."
    )


def test_nothing_scales_a_service_without_scaled_object_and_hpa():
    explanation = one(snapshot(workload(3, hpa=None, scaled_object=None), 9))

    assert codes(explanation) == ["DEMAND", "NOT_SCALED"]
    assert (explanation.expected, explanation.is_healthy) == (3, True)
    assert explanation.next == "It stays at 3 until the Deployment is changed."


@pytest.mark.parametrize(
    ("changes", "replicas", "depth", "held_at", "is_wrong"),
    [
        ({"is_paused": True}, 4, 8, 4, False),
        ({"is_paused": True}, 4, 16, 4, True),
        ({"is_paused": True, "paused_replicas": 2}, 4, 4, 2, False),
        ({"is_paused": True, "paused_replicas": 0}, 4, 1, 0, True),
        ({"conditions": {"Paused": Condition(True, "ScaledObjectPaused")}}, 4, 8, 4, False),
    ],
)
def test_a_pause_is_wrong_if_the_demand_needs_another_count(changes, replicas, depth, held_at, is_wrong):
    explanation = one(snapshot(workload(replicas, hpa=None, scaled_object=scaled_object(**changes)), depth))

    assert explanation.expected == held_at
    assert codes(explanation)[-1] == "PAUSED"
    assert (not explanation.is_healthy) == is_wrong


def test_a_pause_is_reported_with_its_annotation():
    paused = scaled_object(is_paused=True, paused_replicas=1)

    assert text(one(snapshot(workload(1, scaled_object=paused), 30)), "PAUSED") == (
        "The ScaledObject va-encoder is paused at 1 replica. The demand needs 15. "
        "kubectl annotate scaledobject va-encoder autoscaling.keda.sh/paused-replicas-"
    )


def test_a_scaled_object_that_is_not_ready_keeps_the_count_and_reports_kedas_warning():
    warning = "error parsing metrics-api metadata: missing required parameter targetValue"

    explanation = one(snapshot(workload(2, **not_ready(last_warning=warning)), 30))

    assert explanation.expected == 2
    assert wrong(explanation) == ["SCALED_OBJECT_NOT_READY"]
    message = text(explanation, "SCALED_OBJECT_NOT_READY")
    assert message.startswith(
        "The ScaledObject va-encoder is not ready: TriggerError: Triggers defined in ScaledObject are not working "
        f"correctly. KEDA reports: {warning}"
    )


def test_it_reports_when_a_fallback_will_act():
    explanation = one(
        snapshot(workload(2, **not_ready(fallback=Fallback(3, 4, "currentReplicasIfHigher"), failures=2)), 1)
    )

    assert explanation.next == (
        "It stays at 2 until KEDA can read the metric again, or after more than 3 failures in a row (now 2) goes to 4."
    )


@pytest.mark.parametrize(("behavior", "held_at"), [("static", 4), ("currentReplicasIfHigher", 6)])
def test_an_active_fallback_holds_the_count_and_is_wrong(behavior, held_at):
    active = scaled_object(
        conditions={"Ready": Condition(True, "ScaledObjectReady"), "Fallback": Condition(True, "FallbackExists")},
        fallback=Fallback(3, 4, behavior),
        failures=7,
    )

    explanation = one(snapshot(workload(6, scaled_object=active, metric_now=12.0), 1))

    assert wrong(explanation) == ["FALLBACK"]
    assert explanation.expected == held_at
    assert text(explanation, "FALLBACK").startswith(
        f"KEDA has failed to read the metric 7 times in a row, more than 3, and falls back to 4 replicas ({behavior})."
    )


@pytest.mark.parametrize(
    ("activation", "depth", "expected", "next_begins"),
    [
        (0, 0, 0, "It stays at 0 until there is work."),
        (0, 1, 1, "KEDA scales it to 1 within 5 s; the HPA takes over then."),
        (3, 3, 0, "It stays at 0 until there is work."),
        (3, 4, 1, "KEDA scales it to 1 within 5 s"),
    ],
)
def test_at_zero_it_waits_for_a_demand_above_the_activation(activation, depth, expected, next_begins):
    disabled = hpa(conditions={"ScalingActive": Condition(False, "ScalingDisabled", "the replica count is zero")})
    sleeping = workload(0, hpa=disabled, scaled_object=scaled_object(min_replicas=0, activation=activation))

    explanation = one(snapshot(sleeping, depth))

    assert codes(explanation) == ["DEMAND", "WANTED", "AT_ZERO"]
    assert (explanation.expected, explanation.is_healthy) == (expected, True)
    assert explanation.next.startswith(next_begins)


def test_it_reports_when_keda_scales_to_zero():
    idle = scaled_object(min_replicas=0, cooldown_seconds=300, last_active=ago(60))

    explanation = one(snapshot(workload(1, scaled_object=idle), 0))

    assert explanation.next == "KEDA scales it to 0 at about 10:04:00 UTC (in 4 min) unless there is work."


def test_a_workload_that_was_never_active_scales_to_zero_after_the_initial_cooldown():
    fresh = scaled_object(min_replicas=0, last_active=None, created=ago(30), initial_cooldown_seconds=90)

    explanation = one(snapshot(workload(1, scaled_object=fresh), 0))

    assert explanation.next == "KEDA scales it to 0 at about 10:01:00 UTC (in 1 min) unless there is work."


def test_an_hpa_without_a_sync_since_zero_is_not_wrong():
    disabled = hpa(conditions={"ScalingActive": Condition(False, "ScalingDisabled", "the replica count is zero")})
    woken = workload(1, ready=0, hpa=disabled, scaled_object=scaled_object(min_replicas=0))

    explanation = one(snapshot(woken, 6))

    assert (explanation.expected, explanation.is_healthy) == (3, True)


def test_keda_restores_the_minimum_of_a_workload_scaled_to_zero_by_hand():
    explanation = one(snapshot(workload(0, scaled_object=scaled_object(min_replicas=2)), 0))

    assert (explanation.expected, codes(explanation)[-1]) == (2, "BELOW_MINIMUM")


def test_an_hpa_alone_never_scales_from_zero():
    explanation = one(snapshot(workload(0, scaled_object=None), 3))

    assert wrong(explanation) == ["STUCK_AT_ZERO"]
    assert text(explanation, "STUCK_AT_ZERO").endswith("kubectl scale deployment va-encoder --replicas 1")


def test_a_metric_that_the_hpa_cannot_read_keeps_the_count():
    explanation = one(snapshot(workload(3, hpa=hpa(conditions={"ScalingActive": NO_METRIC})), 40))

    assert wrong(explanation) == ["METRIC_UNREADABLE"]
    assert explanation.expected == 3
    assert "FailedGetExternalMetric: the HPA was unable" in text(explanation, "METRIC_UNREADABLE")


def test_a_scaled_object_without_its_hpa_is_wrong():
    assert wrong(one(snapshot(workload(2, hpa=None), 4))) == ["HPA_MISSING"]


def test_an_hpa_that_cannot_set_the_count_is_wrong():
    unable = hpa(conditions={"AbleToScale": Condition(False, "FailedUpdateScale", "forbidden")})

    assert wrong(one(snapshot(workload(2, hpa=unable), 4))) == ["UNABLE_TO_SCALE"]


@pytest.mark.parametrize(
    ("reason", "depth", "is_reported"),
    [("TooManyReplicas", 31, False), ("TooManyReplicas", 20, True), ("TooFewReplicas", 0, False)],
)
def test_a_limit_of_the_hpas_last_sync_is_reported_unless_it_is_already(reason, depth, is_reported):
    limited = hpa(conditions={"ScalingLimited": Condition(True, reason, "the desired replica count is")})

    explanation = one(snapshot(workload(10, hpa=replace(limited, scale_down=AT_ONCE)), depth))

    assert ("SCALING_LIMITED" in codes(explanation)) == is_reported


@pytest.mark.parametrize(
    ("theirs", "before", "is_wrong"),
    [
        (40, 40, False),
        (41, 40, False),  # within one replica's share
        (31, 40, True),
        (31, 30, False),  # the demand changed between the reads
        (50, 40, True),
        (0, 40, True),
    ],
)
def test_keda_must_read_the_sum_of_our_gauges(theirs, before, is_wrong):
    seen = snapshot(workload(10, metric_now=float(theirs)), 30, 10, sums_before={"encoder": before})

    assert ("DISAGREEMENT" in wrong(one(seen))) == is_wrong


def test_a_disagreement_names_both_numbers_and_its_possible_causes():
    found = text(one(snapshot(workload(10, metric_now=30.0), 30, 10)), "DISAGREEMENT")

    assert found.startswith("The autoscaler reads 30 now, the ingress pods together report 40.")
    assert "NetworkPolicy" in found


def test_prometheus_may_lag():
    behind = workload(10, metric_now=20.0, scaled_object=scaled_object(trigger="prometheus"))

    explanation = one(snapshot(behind, 20))

    assert wrong(explanation) == []
    explanation = one(snapshot(behind, 40))
    assert "DISAGREEMENT" in codes(explanation)
    assert "DISAGREEMENT" not in wrong(explanation)


def test_the_hpas_last_metric_may_be_old():
    explanation = one(snapshot(workload(10, hpa=hpa(metric=20.0)), 40, 0))

    assert text(explanation, "DISAGREEMENT").startswith("The HPA last read 20, the ingress pods now report 40")
    assert "DISAGREEMENT" not in wrong(explanation)


def test_a_gauge_that_cannot_be_read_is_named_and_not_in_the_sum():
    explanation = one(snapshot(workload(2, metric_now=40.0), 4, None))

    assert explanation.demand == 4
    assert text(explanation, "GAUGE_UNREADABLE").startswith(
        "The gauges of va-ingress-1 (no answer within 4 s) could not be read; they are not in the sum."
    )
    # An unreadable gauge is no disagreement.
    assert "DISAGREEMENT" not in codes(explanation)


def test_without_any_gauge_the_demand_is_the_autoscalers_metric():
    assert one(snapshot(workload(2, metric_now=4.0), None)).demand == 4
    assert one(snapshot(workload(2, hpa=hpa(metric=4.0)), None)).demand == 4
    assert wrong(one(snapshot(workload(2), None)))[0] == "DEMAND_UNKNOWN"


def test_the_metric_of_a_fallback_is_no_demand():
    """KEDA then serves the value that keeps the count."""
    conditions = {"Ready": Condition(True, "ScaledObjectReady"), "Fallback": Condition(True, "FallbackExists")}
    active = scaled_object(conditions=conditions, fallback=Fallback(3, 1, "currentReplicasIfHigher"), failures=7)

    explanation = one(snapshot(workload(2, hpa=hpa(metric=4.0), scaled_object=active, metric_now=4.0), None))

    assert explanation.demand is None
    assert wrong(explanation) == ["DEMAND_UNKNOWN", "FALLBACK"]


POD = {
    "Unschedulable": ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "No node has a free GPU"),
    "ImagePullBackOff": ('Back-off pulling image "registry/encoder:1"', "imagePullSecrets"),
    "CrashLoopBackOff": ("back-off 5m0s; it last ended with OOMKilled, exit code 137", "kubectl logs --previous"),
    "NotReady": ("encoder has started, but its readiness probe fails", "readiness does not depend on load"),
}


@pytest.mark.parametrize(("trouble", "state", "remedy"), [(key, *value) for key, value in POD.items()], ids=POD)
def test_a_pod_whose_trouble_does_not_end_by_itself_is_wrong(trouble, state, remedy):
    troubled = workload(2, ready=1, pods=(pod("a", is_ready=True, state=""), pod("b", trouble=trouble, state=state)))

    explanation = one(snapshot(troubled, 4))

    (code,) = wrong(explanation)
    assert text(explanation, code).startswith(f"b, created 30 s ago, is not ready: {trouble}: {state}")
    assert remedy in text(explanation, code)


def test_what_the_cluster_does_about_a_pod_is_reported_with_it():
    event = "NotTriggerScaleUp: pod didn't trigger scale-up: 1 max node group size reached"
    waiting = pod("b", trouble="Unschedulable", state="0/1 nodes are available", events=(event,))

    assert event in text(one(snapshot(workload(2, pods=(waiting,)), 4)), "POD_UNSCHEDULABLE")


@pytest.mark.parametrize(("age", "code", "is_wrong"), [(30, "POD_STARTING", False), (601, "POD_SLOW_START", True)])
def test_a_pod_may_take_minutes_to_start_but_not_longer(age, code, is_wrong):
    explanation = one(snapshot(workload(2, pods=(pod(created=ago(age)),)), 4))

    assert codes(explanation)[-1] == code
    assert (not explanation.is_healthy) == is_wrong


def test_a_draining_pod_is_reported_with_what_it_still_does():
    ingress = workload(
        2,
        service="ingress",
        deployment="va-ingress",
        pods=(pod("va-ingress-1", ends_at=NOW.replace(minute=9)), pod("va-ingress-0", is_ready=True)),
    )

    explanation = one(snapshot(ingress, 3, 4, gauges=gauges(3, 4, draining=1)))

    assert text(explanation, "POD_DRAINING") == (
        "va-ingress-1 drains, until 10:09:00 UTC (in 9 min) at the latest, with work in progress: 4 at the encoders."
    )
    assert "POD_DRAINING" not in wrong(explanation)


def test_evicted_pods_are_reported_once_and_not_wrong():
    message = "The node had condition: [DiskPressure]."
    evicted = [
        pod(name, created=ago(age), trouble="Evicted", state=message, is_over=True)
        for name, age in (("c", 90), ("b", 60))
    ]

    explanation = one(snapshot(workload(1, pods=(*evicted, pod("a", is_ready=True, state=""))), 2))

    assert text(explanation, "PODS_ENDED") == (
        f"2 pods have ended and been replaced, the latest of them b, created 1 min ago: Evicted: {message}"
    )
    assert explanation.is_healthy


def test_pods_that_cannot_be_created_are_wrong():
    refused = workload(3, existing=2, ready=2, replica_failure='pods "va-encoder-x" is forbidden: exceeded quota: gpus')

    assert "exceeded quota" in text(one(snapshot(refused, 6)), "PODS_REFUSED")
    assert wrong(one(snapshot(refused, 6))) == ["PODS_REFUSED"]
