"""Kubernetes and KEDA objects as JSON come in, values go out; absent fields get the defaults of their APIs."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kubernetes.utils.quantity import parse_quantity
from prometheus_client.parser import text_string_to_metric_families

from videoanalysis.scaling.arithmetic import SCALE_DOWN, SCALE_UP, Fallback, Policy, Rules
from videoanalysis.scaling.snapshot import SERVICES, Condition, Hpa, Pod, Rescale, ScaledObject

Json = Mapping[str, Any]

_NEW_SIZE = re.compile(r"New size: (\d+)")

# Where a pod declares no port of that name.
_SCALING_PORT = 9091
_QUEUE_DEPTH = "videoanalysis_queue_depth"

# Waiting reasons of a container that end by themselves.
_STARTING = {"ContainerCreating", "PodInitializing", ""}
# Names, by trigger, of the target per replica and of the activation threshold.
_TARGETS = ("targetValue", "threshold", "targetMetricValue")
_ACTIVATIONS = ("activationTargetValue", "activationThreshold")


def quantity(text: str | float) -> float:
    """2500m as 2.5; raises ValueError for malformed text."""
    return float(parse_quantity(text))


def time(text: str | None) -> datetime | None:
    return None if not text else datetime.fromisoformat(text.replace("Z", "+00:00"))


def conditions(item: Json) -> dict[str, Condition]:
    truth = {"True": True, "False": False}
    return {
        each["type"]: Condition(truth.get(each["status"]), each.get("reason") or "", each.get("message") or "")
        for each in (item.get("status") or {}).get("conditions") or ()
    }


def hpa(item: Json, existing: int, events: Iterable[Json] = ()) -> Hpa:
    """`existing` is the number of pods over which the metric is averaged, `events` are those of this HPA."""
    spec, status = item["spec"], item.get("status") or {}
    behavior = spec.get("behavior") or {}
    specified = [metric["external"] for metric in spec.get("metrics") or () if metric["type"] == "External"]
    current = [
        metric["external"] for metric in status.get("currentMetrics") or () if metric and metric["type"] == "External"
    ]
    return Hpa(
        name=item["metadata"]["name"],
        min_replicas=spec.get("minReplicas") or 1,
        max_replicas=spec["maxReplicas"],
        target=_first(specified, lambda metric: metric["target"].get("averageValue")),
        metric=_sum(_first(current, lambda metric: metric["current"].get("averageValue")), existing),
        last_scale=time(status.get("lastScaleTime")),
        scale_up=_rules(behavior.get("scaleUp") or {}, SCALE_UP),
        scale_down=_rules(behavior.get("scaleDown") or {}, SCALE_DOWN),
        conditions=conditions(item),
        rescales=_rescales(events),
    )


def metric_names(item: Json) -> list[str]:
    """The names of an HPA's external metrics."""
    metrics = item["spec"].get("metrics") or ()
    return [metric["external"]["metric"]["name"] for metric in metrics if metric["type"] == "External"]


def scaled_object(item: Json, events: Sequence[Json] = ()) -> ScaledObject:
    """`events` are those of this object."""
    spec, status = item["spec"], item.get("status") or {}
    trigger = (spec.get("triggers") or [{}])[0]
    metadata = trigger.get("metadata") or {}
    annotations = item["metadata"].get("annotations") or {}
    paused_at = annotations.get("autoscaling.keda.sh/paused-replicas")
    warnings = sorted((each for each in events if each.get("type") == "Warning"), key=_event_time)
    return ScaledObject(
        name=item["metadata"]["name"],
        min_replicas=spec.get("minReplicaCount") or 0,
        max_replicas=spec.get("maxReplicaCount") or 100,
        target=_first(_TARGETS, metadata.get),
        activation=_first(_ACTIVATIONS, metadata.get) or 0.0,
        trigger=trigger.get("type") or "",
        polling_seconds=spec.get("pollingInterval") or 30,
        cooldown_seconds=300 if spec.get("cooldownPeriod") is None else spec["cooldownPeriod"],
        last_active=time(status.get("lastActiveTime")),
        conditions=conditions(item),
        fallback=_fallback(spec.get("fallback")),
        failures=max([0, *(each.get("numberOfFailures") or 0 for each in (status.get("health") or {}).values())]),
        # KEDA reads any other text as true.
        is_paused=paused_at is not None
        or annotations.get("autoscaling.keda.sh/paused", "false").lower() not in ("false", "f", "0"),
        paused_replicas=int(paused_at) if paused_at and paused_at.isdigit() else None,
        created=time(item["metadata"].get("creationTimestamp")),
        initial_cooldown_seconds=spec.get("initialCooldownPeriod") or 0,
        last_warning=warnings[-1].get("message") or "" if warnings else "",
    )


def pod(item: Json, events: Sequence[Json] = ()) -> Pod:
    """`events` are those of this pod."""
    metadata, status = item["metadata"], item.get("status") or {}
    known = conditions(item)
    is_ready = known.get("Ready", Condition(None)).is_true is True
    # Kubernetes sets it to the end of the grace period.
    ends_at = time(metadata.get("deletionTimestamp"))
    trouble, state = ("", "") if is_ready else _unreadiness(status, known)
    created = time(metadata.get("creationTimestamp"))
    assert created is not None, "every object in a cluster has a creation time"
    latest = sorted(events, key=_event_time)[-3:]
    return Pod(
        name=metadata["name"],
        is_ready=is_ready and ends_at is None,
        created=created,
        state=state,
        trouble=trouble,
        events=tuple(f"{each.get('reason')}: {each.get('message')}" for each in latest),
        ends_at=ends_at,
        is_over=status.get("phase") == "Failed",
    )


def scaling_port(pod: Json) -> int:
    """The port on which an ingress pod serves its gauges."""
    ports = (
        port
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("name") == "scaling"
    )
    return next((int(port["containerPort"]) for port in ports), _SCALING_PORT)


def depths(page: str) -> dict[str, float]:
    """The queue depths on the page of a scaling endpoint; raises ValueError if a service is missing."""
    found = {
        sample.labels.get("service", ""): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == _QUEUE_DEPTH
    }
    if missing := [service for service in SERVICES if service not in found]:
        raise ValueError(f"no {_QUEUE_DEPTH} of {', '.join(missing)} in the answer")
    return found


def _unreadiness(status: Json, known: Mapping[str, Condition]) -> tuple[str, str]:
    """The reason if the state does not end by itself, otherwise an empty text; and the state in words."""
    scheduled = known.get("PodScheduled")
    if scheduled is not None and scheduled.is_true is False:
        return scheduled.reason or "Unschedulable", scheduled.message
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and (reason := waiting.get("reason") or "") not in _STARTING:
            return reason, " ".join(filter(None, [waiting.get("message"), _last_end(container)]))
    if status.get("phase") == "Failed":
        return status.get("reason") or "Failed", status.get("message") or ""
    running = [each for each in status.get("containerStatuses") or () if (each.get("state") or {}).get("running")]
    for container in running:
        if container.get("restartCount") and (ended := _last_end(container)):
            return "Restarted", f"{container['restartCount']} times; {ended}"
        if container.get("started") and not container.get("ready"):
            return "NotReady", f"{container['name']} has started, but its readiness probe fails"
    if running:
        return "", "starts: its startup probe has not passed yet"
    return "", "starts: its containers are being created"


def _last_end(container: Json) -> str:
    ended = (container.get("lastState") or {}).get("terminated")
    return f"it last ended with {ended.get('reason')}, exit code {ended.get('exitCode')}" if ended else ""


def _rules(item: Json, defaults: Rules) -> Rules:
    window, tolerance = item.get("stabilizationWindowSeconds"), item.get("tolerance")
    policies = tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in item.get("policies") or ())
    return Rules(
        stabilization_seconds=defaults.stabilization_seconds if window is None else window,
        policies=policies or defaults.policies,
        select=item.get("selectPolicy") or defaults.select,
        tolerance=defaults.tolerance if tolerance is None else quantity(tolerance),
    )


def _rescales(events: Iterable[Json]) -> tuple[Rescale, ...]:
    sizes = [
        Rescale(_event_time(event), int(size[1]))
        for event in events
        if event.get("reason") == "SuccessfulRescale" and (size := _NEW_SIZE.search(event.get("message") or ""))
    ]
    return tuple(sorted(sizes, key=lambda rescale: rescale.at))


def _event_time(event: Json) -> datetime:
    series = (event.get("series") or {}).get("lastObservedTime")
    return time(
        series or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    ) or datetime.min.replace(tzinfo=UTC)


def _fallback(item: Json | None) -> Fallback | None:
    if item is None:
        return None
    return Fallback(item["failureThreshold"], item["replicas"], item.get("behavior") or "static")


def _sum(average: float | None, pods: int) -> float | None:
    """The sum behind an average per pod, which the HPA rounds up to a thousandth; our gauges are whole numbers."""
    if average is None:
        return None
    highest = average * max(1, pods)
    whole = math.floor(highest + 1e-9)
    return float(whole) if highest - whole < max(1, pods) / 1000 else highest


def _first(items: Iterable[Any], read: Any) -> float | None:
    values = (read(item) for item in items)
    return next((quantity(value) for value in values if value is not None), None)
