"""Against a fake API server that serves objects in the form of KEDA 2.20 and autoscaling/v2."""

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.scaling import recorded
from tests.scaling.api_server import ApiServer
from videoanalysis.scaling.cluster import Cluster, ClusterError
from videoanalysis.scaling.snapshot import Snapshot, Workload


@pytest.fixture
def kubeconfig(server: ApiServer, tmp_path: Path) -> Path:
    return server.kubeconfig(tmp_path)


def read(kubeconfig: Path, *services: str, release: str | None = None, **where: Any) -> Snapshot:
    with Cluster(kubeconfig=kubeconfig, **where) as cluster:
        return cluster.snapshot(services or ("ingress", "encoder", "decoder"), release)


def encoder(kubeconfig: Path) -> Workload:
    (workload,) = read(kubeconfig, "encoder").workloads
    return workload


def test_reads_the_services_in_order(server, kubeconfig):
    snapshot = read(kubeconfig)

    assert (snapshot.namespace, snapshot.release) == ("videos", "va")
    assert [(each.service, each.replicas, each.ready) for each in snapshot.workloads] == [
        ("ingress", 1, 1),
        ("encoder", 5, 5),
        ("decoder", 1, 1),
    ]
    assert [pod.name for pod in snapshot.workloads[1].pods] == [f"va-encoder-{index}" for index in range(5)]


def test_reads_every_ingress_pods_gauges_through_the_api_server(server, kubeconfig):
    snapshot = read(kubeconfig, "encoder")

    assert [(each.pod, each.is_draining, each.depths) for each in snapshot.gauges] == [
        ("va-ingress-a", False, {"ingress": 1, "encoder": 5, "decoder": 1}),
        ("va-ingress-b", True, {"ingress": 0, "encoder": 4, "decoder": 1}),
    ]
    assert snapshot.sums_before == {"ingress": 1, "encoder": 9, "decoder": 2}


def test_reads_the_hpa_and_the_sum_behind_its_average(server, kubeconfig):
    hpa = encoder(kubeconfig).hpa

    assert hpa is not None
    assert (hpa.min_replicas, hpa.max_replicas, hpa.target) == (1, 10, 2)
    assert hpa.metric == 9  # 1.8 at each of five
    assert hpa.last_scale == datetime(2026, 5, 4, 9, 58, tzinfo=UTC)
    assert hpa.scale_down.stabilization_seconds == 300
    assert [(each.kind, each.value, each.period_seconds) for each in hpa.scale_up.policies] == [
        ("Percent", 100, 15),
        ("Pods", 4, 15),
    ]


def test_reads_the_rescales_of_the_hpa_from_its_events(server, kubeconfig):
    name, reason = "keda-hpa-va-encoder", "SuccessfulRescale"
    server.objects["Event"] = [
        recorded.event("HorizontalPodAutoscaler", name, reason, "New size: 5; reason: …", "2026-05-04T09:58:00Z"),
        recorded.event("HorizontalPodAutoscaler", name, reason, "New size: 2; reason: …", "2026-05-04T09:50:00Z"),
        recorded.event("HorizontalPodAutoscaler", "other", reason, "New size: 9; reason: …", "2026-05-04T09:59:00Z"),
    ]

    hpa = encoder(kubeconfig).hpa

    assert hpa is not None
    assert [(each.at.minute, each.size) for each in hpa.rescales] == [(50, 2), (58, 5)]


def test_reads_the_scaled_object_and_kedas_last_warning(server, kubeconfig):
    old, new = "old", "error parsing metrics-api metadata: missing required parameter targetValue"
    server.objects["Event"] = [
        recorded.event("ScaledObject", "va-encoder", "KEDAScalerFailed", new, "2026-05-04T09:59:00Z", "Warning"),
        recorded.event("ScaledObject", "va-encoder", "KEDAScalerFailed", old, "2026-05-04T09:30:00Z", "Warning"),
        recorded.event("ScaledObject", "va-encoder", "KEDAScalersStarted", "Started", "2026-05-04T09:59:30Z"),
    ]

    scaled = encoder(kubeconfig).scaled_object

    assert scaled is not None
    assert (scaled.min_replicas, scaled.max_replicas, scaled.target, scaled.trigger) == (1, 10, 2, "metrics-api")
    assert (scaled.polling_seconds, scaled.cooldown_seconds, scaled.activation) == (5, 600, 0)
    assert (scaled.created, scaled.initial_cooldown_seconds) == (datetime(2026, 5, 4, 9, tzinfo=UTC), 600)
    assert scaled.fallback is not None
    assert (scaled.fallback.failure_threshold, scaled.fallback.behavior) == (3, "currentReplicasIfHigher")
    assert scaled.last_warning == new
    assert scaled.has("Ready")
    assert not scaled.has("Paused")


def test_reads_the_metric_that_keda_serves_to_the_hpa(server, kubeconfig):
    server.metrics["scaledobject.keda.sh/name=va-encoder"] = "8500m"

    assert encoder(kubeconfig).metric_now == 8.5


def test_an_unreadable_metric_of_keda_is_none(server, kubeconfig):
    server.metrics.clear()

    assert encoder(kubeconfig).metric_now is None


def test_reads_when_a_draining_pod_is_killed(server, kubeconfig):
    pods = {pod.name: pod for pod in read(kubeconfig, "ingress").workloads[0].pods}

    assert pods["va-ingress-b"].ends_at == datetime(2026, 5, 4, 10, 8, tzinfo=UTC)
    assert not pods["va-ingress-b"].is_ready
    assert pods["va-ingress-a"].is_ready


def test_reads_the_events_of_pods_that_are_not_ready_only(server, kubeconfig):
    server.objects["Pod"].append(recorded.unschedulable_pod("encoder", "x"))
    message = "pod didn't trigger scale-up: 1 max node group size reached"
    server.objects["Event"] = [
        recorded.event("Pod", "va-encoder-x", "NotTriggerScaleUp", message, "2026-05-04T09:59:00Z"),
        recorded.event("Pod", "va-encoder-0", "Pulled", "…", "2026-05-04T09:59:00Z"),
    ]

    *others, pod = encoder(kubeconfig).pods

    assert (pod.trouble, pod.events) == ("Unschedulable", (f"NotTriggerScaleUp: {message}",))
    assert all(other.events == () for other in others)


def test_an_unreadable_gauge_is_reported_with_the_reason(server, kubeconfig):
    del server.scaling["va-ingress-b:9091"]
    server.scaling["va-ingress-a:9091"] = "queue_depth 3\n"

    problems = [(each.depths, each.problem) for each in read(kubeconfig).gauges]

    assert problems == [
        (None, "no videoanalysis_queue_depth of ingress, encoder, decoder in the answer"),
        (None, "503 error trying to reach service: dial tcp: i/o timeout"),
    ]


def test_the_gauges_are_read_at_the_port_named_scaling(server, kubeconfig):
    pods = {pod["metadata"]["name"]: pod for pod in server.objects["Pod"]}
    pods["va-ingress-b"]["spec"]["containers"][0]["ports"] = [
        {"name": "grpc", "containerPort": 50051},
        {"name": "scaling", "containerPort": 7000},
    ]
    server.scaling["va-ingress-b:7000"] = recorded.scaling(0, 3, 0)

    assert [each.depths and each.depths["encoder"] for each in read(kubeconfig).gauges] == [5, 3]


def test_a_pod_that_is_not_running_has_no_gauges(server, kubeconfig):
    server.objects["Pod"].append(recorded.waiting_pod("ingress", "c", "ContainerCreating"))

    assert [each.pod for each in read(kubeconfig).gauges] == ["va-ingress-a", "va-ingress-b"]


def test_without_keda_there_is_an_hpa_of_any_name(server, kubeconfig):
    server.absent = {"ScaledObject"}
    server.objects["HorizontalPodAutoscaler"][1]["metadata"]["name"] = "va-encoder"

    workload = encoder(kubeconfig)

    assert workload.scaled_object is None
    assert workload.hpa is not None
    assert workload.hpa.name == "va-encoder"


def test_a_deployment_that_cannot_create_pods_has_the_reason(server, kubeconfig):
    server.objects["Deployment"][1]["status"]["conditions"].append(
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: gpus"}
    )

    assert encoder(kubeconfig).replica_failure == "exceeded quota: gpus"


def test_of_several_releases_one_must_be_named(server, kubeconfig):
    server.objects["Deployment"] += [
        recorded.deployment(service, 1, release="other") for service in ("ingress", "encoder", "decoder")
    ]

    with pytest.raises(ClusterError, match="several releases in namespace videos: other, va; name one with --release"):
        read(kubeconfig)
    assert read(kubeconfig, release="va").release == "va"


def test_other_software_with_a_component_of_the_same_name_is_no_release(server, kubeconfig):
    server.objects["Deployment"].append(recorded.deployment("ingress", 1, release="nginx"))

    assert read(kubeconfig).release == "va"


@pytest.mark.parametrize(
    "where",
    [{"release": "wrong"}, {"namespace": "empty"}, {"context": "elsewhere"}],
    ids=lambda where: next(iter(where)),
)
def test_a_missing_release_is_reported_with_the_options_that_name_another(server, kubeconfig, where):
    with pytest.raises(ClusterError, match=r"no Deployments .* --namespace, --context and --release say where to look"):
        read(kubeconfig, **where)


def test_missing_rights_are_named(server, kubeconfig):
    server.refused = {"HorizontalPodAutoscaler"}

    with pytest.raises(
        ClusterError, match=r"403 .* you need get and list on horizontalpodautoscalers in namespace videos"
    ):
        read(kubeconfig)


def test_a_context_that_is_not_in_the_kubeconfig_is_named(server, kubeconfig):
    with pytest.raises(ClusterError, match="nowhere"):
        read(kubeconfig, context="nowhere")


def test_an_unreachable_cluster_is_named(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(ClusterError, match=f"127.0.0.1:{port} cannot be reached"):
        read(server.kubeconfig(tmp_path, server=f"http://127.0.0.1:{port}"))


def test_a_missing_kubeconfig_is_reported_with_the_remedy(tmp_path):
    with pytest.raises(ClusterError, match="name one with KUBECONFIG and --context"):
        read(tmp_path / "nothing")
