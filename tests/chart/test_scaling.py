"""Autoscaling: what sets the replica counts, from which metrics, and how fast."""

import pytest
import yaml

from tests.chart import kinds
from tests.chart.helm import CHART, KUBERNETES, NAME, SERVICES, VALUES, complaint, render

HPA = {"autoscaling": {"mode": "hpa", "hpa": {"metricName": "videoanalysis_queue_depth"}}}
PROMETHEUS = {"autoscaling": {"mode": "prometheus", "prometheus": {"serverAddress": "http://prometheus:9090"}}}


def scaled_objects(values: str = "gpu", changes: dict | None = None) -> dict[str, dict]:
    rendered = render(values, changes)
    return {service: rendered.one("ScaledObject", service)["spec"] for service in SERVICES}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("changes", [{}, HPA, PROMETHEUS], ids=["keda", "hpa", "prometheus"])
def test_a_deployment_with_an_autoscaler_has_no_replica_count(values, changes):
    zero_takes_keda = {"encoder": {"autoscaling": {"minReplicas": 1}}} if changes is HPA else {}
    rendered = render(values, {**changes, **zero_takes_keda})
    kind = "HorizontalPodAutoscaler" if changes is HPA else "ScaledObject"
    for name, deployment in rendered.deployments().items():
        assert "replicas" not in deployment["spec"]
        assert rendered.one(kind, name)["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert {"HorizontalPodAutoscaler", "ScaledObject"} & {item["kind"] for item in rendered} == {kind}


def test_without_an_autoscaler_the_values_set_the_replica_count():
    rendered = render("gpu", {"autoscaling": {"mode": "none"}, "encoder": {"replicas": 3}})
    replicas = {name: item["spec"]["replicas"] for name, item in rendered.deployments().items()}
    assert replicas == {"ingress": 2, "encoder": 3, "decoder": 1}
    assert not {"HorizontalPodAutoscaler", "ScaledObject"} & {item["kind"] for item in rendered}


def test_nothing_is_scaled_by_cpu():
    for changes in ({}, HPA, PROMETHEUS):
        for item in render("gpu", changes):
            if item["kind"] == "HorizontalPodAutoscaler":
                assert [metric["type"] for metric in item["spec"]["metrics"]] == ["External"]
            if item["kind"] == "ScaledObject":
                assert {trigger["type"] for trigger in item["spec"]["triggers"]} <= {"metrics-api", "prometheus"}


def test_default_limits_and_targets():
    limits = {
        name: (spec["minReplicaCount"], spec["maxReplicaCount"], spec["triggers"][0]["metadata"]["targetValue"])
        for name, spec in scaled_objects().items()
    }
    assert limits == {"ingress": (2, 20, "2"), "encoder": (1, 10, "2"), "decoder": (1, 10, "2")}


def test_keda_sums_over_the_ingresses_and_divides_by_the_target_once():
    for service, spec in scaled_objects().items():
        (trigger,) = spec["triggers"]
        assert trigger["type"] == "metrics-api"
        # An average would be divided by the replicas a second time.
        assert trigger["metricType"] == "AverageValue"
        assert trigger["metadata"]["aggregationType"] == "sum"
        assert trigger["metadata"]["aggregateFromKubeServiceEndpoints"] == "true"
        assert trigger["metadata"]["format"] == "prometheus"
        assert trigger["metadata"]["valueLocation"] == f'videoanalysis_queue_depth{{service="{service}"}}'


def test_all_three_read_the_ingresses_including_draining_pods():
    rendered = render("gpu")
    service = rendered.one("Service", "ingress-scaling")
    assert service["spec"]["publishNotReadyAddresses"] is True
    (port,) = service["spec"]["ports"]
    for spec in scaled_objects().values():
        url = spec["triggers"][0]["metadata"]["url"]
        assert url == f"http://{NAME}-ingress-scaling.media.svc:{port['port']}/scaling"


def test_unreadable_ingresses_remove_no_replica():
    for spec in scaled_objects().values():
        assert spec["fallback"] == {
            "failureThreshold": 3,
            "replicas": spec["minReplicaCount"],
            "behavior": "currentReplicasIfHigher",
        }


def test_scales_up_at_once_and_down_slowly():
    for service, spec in scaled_objects().items():
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
        (down,) = behavior["scaleDown"]["policies"]
        assert down == {"type": "Pods", "value": 1, "periodSeconds": 300 if service == "ingress" else 60}


def test_an_encoder_may_scale_to_zero_and_only_then_has_a_cooldown():
    rested = scaled_objects("gpu", {"encoder": {"autoscaling": {"minReplicas": 0}}})["encoder"]
    assert rested["minReplicaCount"] == 0
    # Nor is the first one taken away before anyone could call.
    assert rested["cooldownPeriod"] == rested["initialCooldownPeriod"] == 600
    # Waking a GPU because nothing can be read would be dear.
    assert rested["fallback"]["replicas"] == 0
    assert "cooldownPeriod" not in scaled_objects()["encoder"]


def test_the_prometheus_query_is_the_same_sum_over_this_release():
    own = f'namespace="media",pod=~"{NAME}-(ingress)-[a-z0-9]{{1,10}}-[a-z0-9]{{5}}"'
    for service, spec in scaled_objects("gpu", PROMETHEUS).items():
        (trigger,) = spec["triggers"]
        assert trigger["type"] == "prometheus"
        assert trigger["metricType"] == "AverageValue"
        assert trigger["metadata"] == {
            "serverAddress": "http://prometheus:9090",
            "query": f'sum(videoanalysis_queue_depth{{{own},service="{service}"}})',
            "threshold": "2",
            # What is not there is not zero.
            "ignoreNullValues": "false",
        }


@pytest.mark.parametrize("kind", ["TriggerAuthentication", "ClusterTriggerAuthentication"])
def test_queries_of_prometheus_may_need_a_tenant_and_authentication(kind):
    prometheus = {
        "authenticationRef": {"name": "prometheus", "kind": kind},
        "authModes": ["bearer", "tls"],
        "customHeaders": {"X-Scope-OrgID": "media", "X-Client": "keda"},
        "metadata": {"unsafeSsl": "true", "ignoreNullValues": "true", "query": "theirs"},
    }
    own = {"autoscaling": {"mode": "prometheus", "prometheus": {"serverAddress": "https://mimir:9009", **prometheus}}}
    rendered = render("gpu", own)
    for service in SERVICES:
        item = rendered.one("ScaledObject", service)
        assert kinds.problems(item, KUBERNETES[-1]) == []
        (trigger,) = item["spec"]["triggers"]
        assert trigger["authenticationRef"] == {"name": "prometheus", "kind": kind}
        assert trigger["metadata"]["authModes"] == "bearer,tls"
        assert trigger["metadata"]["customHeaders"] == "X-Client=keda,X-Scope-OrgID=media"
        assert trigger["metadata"]["unsafeSsl"] == trigger["metadata"]["ignoreNullValues"] == "true"
        # Not theirs to set.
        assert f'service="{service}"' in trigger["metadata"]["query"]


def test_modes_of_authentication_need_the_object_with_their_parameters():
    own = {"autoscaling": {"mode": "prometheus", "prometheus": {"serverAddress": "http://p", "authModes": ["basic"]}}}
    assert "autoscaling.prometheus.authenticationRef.name is required" in complaint("gpu", own)


def test_without_authentication_a_trigger_names_none():
    for spec in scaled_objects("gpu", PROMETHEUS).values():
        (trigger,) = spec["triggers"]
        assert "authenticationRef" not in trigger


def test_polls_have_an_interval_only_where_there_may_be_no_replica():
    changes = {"autoscaling": {"keda": {"pollingInterval": 7}}, "encoder": {"autoscaling": {"minReplicas": 0}}}
    intervals = {service: spec.get("pollingInterval") for service, spec in scaled_objects("gpu", changes).items()}
    assert intervals == {"ingress": None, "encoder": 7, "decoder": None}


def test_an_hpa_s_labels_can_be_changed_and_omitted():
    labels = {"app_kubernetes_io_name": "", "app_kubernetes_io_instance": "theirs", "cluster": "one"}
    changes = {
        "autoscaling": {"mode": "hpa", "hpa": {"metricName": "videoanalysis_queue_depth", "matchLabels": labels}}
    }
    for service in SERVICES:
        (metric,) = render("gpu", changes).one("HorizontalPodAutoscaler", service)["spec"]["metrics"]
        selected = metric["external"]["metric"]["selector"]["matchLabels"]
        assert selected == {"service": service, "app_kubernetes_io_instance": "theirs", "cluster": "one"}


def test_an_hpa_reads_the_metric_that_the_adapter_s_rule_serves():
    (rule,) = yaml.safe_load((CHART / "files" / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    assert "sum(" in rule["metricsQuery"]
    rendered = render("gpu", HPA)
    for service in SERVICES:
        (metric,) = rendered.one("HorizontalPodAutoscaler", service)["spec"]["metrics"]
        assert metric["external"]["metric"]["name"] == rule["name"]["as"]
        assert metric["external"]["metric"]["selector"] == {
            "matchLabels": {
                "service": service,
                "app_kubernetes_io_name": "video-analysis",
                "app_kubernetes_io_instance": "va",
            }
        }
        assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "2"}
