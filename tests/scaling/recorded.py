"""Objects of a release in the form of a real API server with KEDA 2.20."""

from typing import Any

METRIC = 's0-metric-api-videoanalysis_queue_depth{service="encoder"}'
CREATED = "2026-05-04T09:00:00Z"


def labels(service: str, release: str = "va") -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "video-analysis",
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/component": service,
    }


def deployment(service: str, replicas: int, ready: int | None = None, release: str = "va") -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{release}-{service}",
            "labels": {**labels(service, release), "helm.sh/chart": "video-analysis-0.1.0"},
            "creationTimestamp": CREATED,
        },
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels(service, release)}},
        "status": {
            "observedGeneration": 3,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas if ready is None else ready,
            "conditions": [
                {
                    "type": "Available",
                    "status": "True",
                    "reason": "MinimumReplicasAvailable",
                    "message": "Deployment has minimum availability.",
                },
            ],
        },
    }


def hpa(service: str, average: str | None = "2", **spec: Any) -> dict[str, Any]:
    """`average` is the metric's share of each pod as it was last seen."""
    identifier = {"name": METRIC, "selector": {"matchLabels": {"scaledobject.keda.sh/name": f"va-{service}"}}}
    current = {"metric": identifier, "current": {"averageValue": average}}
    return {
        "metadata": {
            "name": f"keda-hpa-va-{service}",
            "labels": {"app.kubernetes.io/managed-by": "keda-operator", "scaledobject.keda.sh/name": f"va-{service}"},
            "ownerReferences": [{"kind": "ScaledObject", "name": f"va-{service}", "controller": True}],
        },
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": f"va-{service}", "apiVersion": "apps/v1"},
            "minReplicas": 1,
            "maxReplicas": 10,
            "metrics": [
                {
                    "type": "External",
                    "external": {"metric": identifier, "target": {"type": "AverageValue", "averageValue": "2"}},
                }
            ],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "selectPolicy": "Max",
                    "policies": [
                        {"type": "Percent", "value": 100, "periodSeconds": 15},
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                    ],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 300,
                    "selectPolicy": "Max",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                },
            },
            **spec,
        },
        "status": {
            "lastScaleTime": "2026-05-04T09:58:00Z",
            "currentReplicas": 1,
            "desiredReplicas": 1,
            "currentMetrics": [{"type": "External", "external": current} if average else {"type": ""}],
            "conditions": [
                {
                    "type": "AbleToScale",
                    "status": "True",
                    "lastTransitionTime": CREATED,
                    "reason": "ReadyForNewScale",
                    "message": "recommended size matches current size",
                },
                {
                    "type": "ScalingActive",
                    "status": "True",
                    "lastTransitionTime": CREATED,
                    "reason": "ValidMetricFound",
                    "message": "the HPA was able to successfully calculate a replica count from external metric "
                    f"{METRIC}(&LabelSelector{{MatchLabels:map[string]string{{"
                    f"scaledobject.keda.sh/name: va-{service},}},"
                    "MatchExpressions:[]LabelSelectorRequirement{},})",
                },
                {
                    "type": "ScalingLimited",
                    "status": "False",
                    "lastTransitionTime": CREATED,
                    "reason": "DesiredWithinRange",
                    "message": "the desired count is within the acceptable range",
                },
            ],
        },
    }


def scaled_object(service: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"va-{service}",
            "labels": labels(service) | {"scaledobject.keda.sh/name": f"va-{service}"},
            "annotations": annotations or {},
            "creationTimestamp": CREATED,
            "finalizers": ["finalizer.keda.sh"],
        },
        "spec": {
            "scaleTargetRef": {"name": f"va-{service}"},
            "minReplicaCount": 1,
            "maxReplicaCount": 10,
            "pollingInterval": 5,
            "cooldownPeriod": 600,
            "initialCooldownPeriod": 600,
            "fallback": {"failureThreshold": 3, "replicas": 1, "behavior": "currentReplicasIfHigher"},
            "triggers": [
                {
                    "type": "metrics-api",
                    "name": f"{service}-queue",
                    "metricType": "AverageValue",
                    "metadata": {
                        "url": "http://va-ingress-scaling.videos.svc:9091/scaling",
                        "format": "prometheus",
                        "valueLocation": f'videoanalysis_queue_depth{{service="{service}"}}',
                        "targetValue": "2",
                        "aggregateFromKubeServiceEndpoints": "true",
                        "aggregationType": "sum",
                    },
                }
            ],
            **spec,
        },
        "status": {
            "scaleTargetKind": "apps/v1.Deployment",
            "scaleTargetGVKR": {"group": "apps", "version": "v1", "kind": "Deployment", "resource": "deployments"},
            "originalReplicaCount": 1,
            "lastActiveTime": "2026-05-04T09:59:55Z",
            "externalMetricNames": [METRIC],
            "hpaName": f"keda-hpa-va-{service}",
            "triggersTypes": "metrics-api",
            "health": {METRIC: {"numberOfFailures": 0, "status": "Happy"}},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "ScaledObjectReady",
                    "message": "ScaledObject is defined correctly and is ready for scaling",
                },
                {
                    "type": "Active",
                    "status": "True",
                    "reason": "ScalerActive",
                    "message": "Scaling is performed because triggers are active",
                },
                {
                    "type": "Fallback",
                    "status": "False",
                    "reason": "NoFallbackFound",
                    "message": "No fallbacks are active on this scaled object",
                },
                {"type": "Paused", "status": "Unknown"},
            ],
        },
    }


def pod(service: str, suffix: str, **status: Any) -> dict[str, Any]:
    """Ready, unless `status` changes it."""
    started = {"running": {"startedAt": "2026-05-04T09:00:05Z"}}
    return {
        "metadata": {
            "name": f"va-{service}-{suffix}",
            "labels": labels(service) | {"pod-template-hash": "5d8f7c9b6"},
            "creationTimestamp": CREATED,
        },
        "spec": {"terminationGracePeriodSeconds": 60, "containers": [{"name": service}]},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True"},
            ],
            "containerStatuses": [
                {"name": service, "ready": True, "started": True, "restartCount": 0, "state": started, "lastState": {}}
            ],
            **status,
        },
    }


def waiting_pod(service: str, suffix: str, reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    """Its one container is not running, for a reason."""
    return pod(
        service,
        suffix,
        phase="Pending",
        conditions=[
            {"type": "PodScheduled", "status": "True"},
            {
                "type": "Ready",
                "status": "False",
                "reason": "ContainersNotReady",
                "message": f"containers with unready status: [{service}]",
            },
        ],
        containerStatuses=[
            {
                "name": service,
                "ready": False,
                "started": False,
                "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}},
                "lastState": {},
                **container,
            }
        ],
    )


def unschedulable_pod(service: str, suffix: str) -> dict[str, Any]:
    message = (
        "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        "2 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for "
        "scheduling."
    )
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    item = pod(service, suffix, phase="Pending", conditions=[condition])
    del item["status"]["containerStatuses"]
    return item


def draining(pod: dict[str, Any], until: str) -> dict[str, Any]:
    pod["metadata"] |= {"deletionTimestamp": until, "deletionGracePeriodSeconds": 630}
    return pod


def event(kind: str, name: str, reason: str, message: str, at: str, type: str = "Normal") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.{at}", "namespace": "videos"},
        "involvedObject": {"kind": kind, "name": name, "namespace": "videos"},
        "reason": reason,
        "message": message,
        "type": type,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def scaling(ingress: int, encoder: int, decoder: int) -> str:
    return (
        "# HELP videoanalysis_queue_depth Work there is for each service.\n"
        "# TYPE videoanalysis_queue_depth gauge\n"
        f'videoanalysis_queue_depth{{service="ingress"}} {ingress}\n'
        f'videoanalysis_queue_depth{{service="encoder"}} {encoder}\n'
        f'videoanalysis_queue_depth{{service="decoder"}} {decoder}\n'
    )
