"""Objects as Kubernetes and KEDA serve them, and the defaults of absent fields."""

import pytest

from tests.scaling import recorded
from videoanalysis.scaling import objects
from videoanalysis.scaling.arithmetic import Policy


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("2500m", 2.5), ("1k", 1000), ("2Ki", 2048), ("1e3", 1000), ("0", 0), (7, 7), ("-3", -3)],
)
def test_quantities(text, value):
    assert objects.quantity(text) == value


@pytest.mark.parametrize("text", ["", "x", "2parsecs"])
def test_rejects_a_malformed_quantity(text):
    with pytest.raises(ValueError, match="Invalid number format"):
        objects.quantity(text)


@pytest.mark.parametrize(
    ("average", "pods", "whole"),
    [
        ("2334m", 3, 7),  # 7 / 3 = 2.3333…, which the HPA rounds up to a thousandth
        ("1429m", 7, 10),
        ("3", 4, 12),
        ("0", 2, 0),
        ("2500m", 1, 2.5),  # of a metric that is no gauge of ours
    ],
)
def test_the_sum_behind_an_average_is_a_whole_number(average, pods, whole):
    assert objects.hpa(recorded.hpa("encoder", average), pods).metric == whole


def test_an_hpa_that_has_not_read_its_metric_has_none():
    assert objects.hpa(recorded.hpa("encoder", None), 3).metric is None


def test_an_absent_behavior_is_the_default_of_kubernetes():
    plain = objects.hpa(recorded.hpa("encoder", behavior={"scaleDown": {"tolerance": "0"}}), 1)

    assert (plain.scale_up.stabilization_seconds, plain.scale_down.stabilization_seconds) == (0, 300)
    assert set(plain.scale_up.policies) == {Policy("Percent", 100, 15), Policy("Pods", 4, 15)}
    assert plain.scale_down.policies == (Policy("Percent", 100, 15),)
    assert (plain.scale_up.tolerance, plain.scale_down.tolerance) == (0.1, 0)


def test_a_window_of_zero_is_not_the_default_window():
    at_once = objects.hpa(recorded.hpa("encoder", behavior={"scaleDown": {"stabilizationWindowSeconds": 0}}), 1)

    assert at_once.scale_down.stabilization_seconds == 0


def test_absent_fields_of_a_scaled_object_have_kedas_defaults():
    item = recorded.scaled_object("encoder")
    item["spec"] = {"scaleTargetRef": {"name": "va-encoder"}, "triggers": item["spec"]["triggers"]}

    scaled = objects.scaled_object(item)

    assert (scaled.min_replicas, scaled.max_replicas, scaled.polling_seconds, scaled.cooldown_seconds) == (
        0,
        100,
        30,
        300,
    )
    assert scaled.fallback is None


def test_the_prometheus_trigger_has_other_names_for_its_target():
    trigger = {"type": "prometheus", "metadata": {"threshold": "3", "activationThreshold": "1", "query": "sum(x)"}}

    scaled = objects.scaled_object(recorded.scaled_object("encoder", triggers=[trigger]))

    assert (scaled.target, scaled.activation, scaled.trigger) == (3, 1, "prometheus")


@pytest.mark.parametrize(
    ("annotations", "is_paused", "held_at"),
    [
        ({}, False, None),
        ({"autoscaling.keda.sh/paused": "true"}, True, None),
        ({"autoscaling.keda.sh/paused": "yes, please"}, True, None),
        ({"autoscaling.keda.sh/paused": "false"}, False, None),
        ({"autoscaling.keda.sh/paused-replicas": "4"}, True, 4),
        ({"autoscaling.keda.sh/paused": "false", "autoscaling.keda.sh/paused-replicas": "0"}, True, 0),
    ],
)
def test_a_pause_is_an_annotation(annotations, is_paused, held_at):
    scaled = objects.scaled_object(recorded.scaled_object("encoder", annotations))

    assert (scaled.is_paused, scaled.paused_replicas) == (is_paused, held_at)


def test_failures_are_those_of_the_metric_that_fails_most():
    item = recorded.scaled_object("encoder")
    item["status"]["health"] |= {"s1-other": {"numberOfFailures": 7, "status": "Failing"}}

    assert objects.scaled_object(item).failures == 7


ENDED = {"lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}, "restartCount": 3}
RUNNING = {"state": {"running": {"startedAt": "2026-05-04T09:00:05Z"}}}


@pytest.mark.parametrize(
    ("item", "trouble", "state"),
    [
        (recorded.unschedulable_pod("encoder", "a"), "Unschedulable", "2 Insufficient nvidia.com/gpu"),
        (recorded.waiting_pod("encoder", "a", "ImagePullBackOff", "Back-off pulling"), "ImagePullBackOff", "Back-off"),
        (recorded.waiting_pod("encoder", "a", "CrashLoopBackOff", "back-off", **ENDED), "CrashLoopBackOff", "code 137"),
        (recorded.waiting_pod("encoder", "a", "ContainerCreating"), "", "its containers are being created"),
        (recorded.waiting_pod("encoder", "a", "", **RUNNING), "", "its startup probe has not passed yet"),
        (recorded.waiting_pod("encoder", "a", "", **RUNNING, **ENDED), "Restarted", "3 times; it last ended with OOMK"),
        (recorded.waiting_pod("encoder", "a", "", **RUNNING, started=True), "NotReady", "its readiness probe fails"),
        (recorded.pod("encoder", "a"), "", ""),
    ],
)
def test_the_state_of_a_pod_that_is_not_ready(item, trouble, state):
    pod = objects.pod(item)

    assert pod.trouble == trouble
    assert state in pod.state
    assert pod.is_ready == (not pod.state)


@pytest.mark.parametrize(("phase", "is_over"), [("Failed", True), ("Running", False)])
def test_a_pod_that_has_failed_is_over(phase, is_over):
    item = recorded.waiting_pod("encoder", "a", "")
    item["status"] |= {"phase": phase, "reason": "Evicted", "containerStatuses": []}

    assert objects.pod(item).is_over == is_over


def test_a_failing_init_container_is_the_trouble():
    item = recorded.waiting_pod("encoder", "a", "PodInitializing")
    failing = recorded.waiting_pod("encoder", "a", "CrashLoopBackOff", "back-off 20s")["status"]["containerStatuses"]
    item["status"]["initContainerStatuses"] = failing

    assert objects.pod(item).trouble == "CrashLoopBackOff"


def test_a_scaling_page_has_all_three_gauges():
    assert objects.depths(recorded.scaling(3, 14, 0)) == {"ingress": 3, "encoder": 14, "decoder": 0}
    with pytest.raises(ValueError, match="no videoanalysis_queue_depth of decoder"):
        objects.depths(recorded.scaling(3, 14, 0).replace('"decoder"', '"other"'))
