"""From the JSON of Kubernetes and KEDA objects to values; what is left out has the defaults of their APIs."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from videoanalysis.scaling.snapshot import (
    SERVICES,
    Condition,
    Fallback,
    Hpa,
    Pod,
    Policy,
    Rescale,
    Rules,
    ScaledObject,
)

Json = Mapping[str, Any]

_SUFFIXES = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)")
_SAMPLE = re.compile(r'videoanalysis_queue_depth\{service="(\w+)"\} ([0-9.eE+-]+)')
_NEW_SIZE = re.compile(r"New size: (\d+)")

# Of a pod that does not name it.
_SCALING_PORT = 9091
_SCALE_UP_POLICIES = (Policy("Percent", 100, 15), Policy("Pods", 4, 15))
_SCALE_DOWN_POLICIES = (Policy("Percent", 100, 15),)
_SCALE_DOWN_STABILIZATION_SECONDS = 300
_CLUSTER_TOLERANCE = 0.1

# States of a container that pass by themselves.
_STARTING = {"ContainerCreating", "PodInitializing", ""}
# The trigger's own words for the target per replica and for what wakes it from zero.
_TARGETS = ("targetValue", "threshold", "targetMetricValue")
_ACTIVATIONS = ("activationTargetValue", "activationThreshold")


def quantity(text: str | int | float) -> float:
    """2500m as 2.5; raises ValueError for what is no quantity."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1]) * _SUFFIXES[match[2]]


def time(text: str | None) -> datetime | None:
    return None if not text else datetime.fromisoformat(text.replace("Z", "+00:00"))


def conditions(item: Json) -> dict[str, Condition]:
    truth = {"True": True, "False": False}
    return {
        each["type"]: Condition(truth.get(each["status"]), each.get("reason") or "", each.get("message") or "")
        for each in (item.get("status") or {}).get("conditions") or ()
    }


def hpa(item: Json, existing: int, events: Iterable[Json] = ()) -> Hpa:
    """`existing` is the number of pods over which the metric was averaged, `events` are those of this HPA."""
    spec, status = item["spec"], item.get("status") or {}
    behavior = spec.get("behavior") or {}
    wanted = [metric["external"] for metric in spec.get("metrics") or () if metric["type"] == "External"]
    seen = [
        metric["external"] for metric in status.get("currentMetrics") or () if metric and metric["type"] == "External"
    ]
    return Hpa(
        name=item["metadata"]["name"],
        min_replicas=spec.get("minReplicas") or 1,
        max_replicas=spec["maxReplicas"],
        target=_first(wanted, lambda metric: metric["target"].get("averageValue")),
        metric=_whole(_first(seen, lambda metric: metric["current"].get("averageValue")), existing),
        last_scale=time(status.get("lastScaleTime")),
        scale_up=_rules(behavior.get("scaleUp") or {}, 0, _SCALE_UP_POLICIES),
        scale_down=_rules(behavior.get("scaleDown") or {}, _SCALE_DOWN_STABILIZATION_SECONDS, _SCALE_DOWN_POLICIES),
        conditions=conditions(item),
        rescales=_rescales(events),
    )


def metric_names(item: Json) -> list[str]:
    """Of the external metrics of an HPA."""
    metrics = item["spec"].get("metrics") or ()
    return [metric["external"]["metric"]["name"] for metric in metrics if metric["type"] == "External"]


def scaled_object(item: Json, events: Sequence[Json] = ()) -> ScaledObject:
    """`events` are those of this object."""
    spec, status = item["spec"], item.get("status") or {}
    trigger = (spec.get("triggers") or [{}])[0]
    metadata = trigger.get("metadata") or {}
    annotations = item["metadata"].get("annotations") or {}
    held_at = annotations.get("autoscaling.keda.sh/paused-replicas")
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
        # KEDA takes what is no boolean for true.
        is_paused=held_at is not None
        or annotations.get("autoscaling.keda.sh/paused", "false").lower() not in ("false", "f", "0"),
        paused_replicas=int(held_at) if held_at and held_at.isdigit() else None,
        created=time(item["metadata"].get("creationTimestamp")),
        initial_cooldown_seconds=spec.get("initialCooldownPeriod") or 0,
        complaint=warnings[-1].get("message") or "" if warnings else "",
    )


def pod(item: Json, events: Sequence[Json] = ()) -> Pod:
    """`events` are those of this pod."""
    metadata, status = item["metadata"], item.get("status") or {}
    known = conditions(item)
    is_ready = known.get("Ready", Condition(None)).is_true is True
    # Kubernetes sets it to when the grace ends.
    ends_at = time(metadata.get("deletionTimestamp"))
    trouble, state = ("", "") if is_ready else _unreadiness(status, known)
    created = time(metadata.get("creationTimestamp"))
    assert created is not None, "every object in a cluster has a time of its creation"
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
    """Where an ingress pod serves its gauges."""
    ports = (
        port
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("name") == "scaling"
    )
    return next((int(port["containerPort"]) for port in ports), _SCALING_PORT)


def depths(text: str) -> dict[str, float]:
    """The three gauges of a scaling endpoint; raises ValueError if one is missing."""
    found = {service: float(value) for service, value in _SAMPLE.findall(text)}
    if missing := [service for service in SERVICES if service not in found]:
        raise ValueError(f"no videoanalysis_queue_depth of {', '.join(missing)} in the answer")
    return found


def _unreadiness(status: Json, known: Mapping[str, Condition]) -> tuple[str, str]:
    """What does not pass by itself, or nothing, and the whole of it in words."""
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


def _rules(item: Json, stabilization_seconds: float, policies: tuple[Policy, ...]) -> Rules:
    given = item.get("stabilizationWindowSeconds")
    tolerance = item.get("tolerance")
    select: Literal["Max", "Min", "Disabled"] = item.get("selectPolicy") or "Max"
    return Rules(
        stabilization_seconds=stabilization_seconds if given is None else given,
        policies=tuple(
            Policy(each["type"], each["value"], each["periodSeconds"]) for each in item.get("policies") or ()
        )
        or policies,
        select=select,
        tolerance=_CLUSTER_TOLERANCE if tolerance is None else quantity(tolerance),
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
    return (
        None if item is None else Fallback(item["failureThreshold"], item["replicas"], item.get("behavior") or "static")
    )


def _whole(average: float | None, pods: int) -> float | None:
    """The sum of which `average` is the share of each pod, rounded up to a thousandth; our gauges are whole numbers."""
    if average is None:
        return None
    most = average * max(1, pods)
    whole = math.floor(most + 1e-9)
    return float(whole) if most - whole < max(1, pods) / 1000 else most


def _first(items: Iterable[Any], read: Any) -> float | None:
    values = (read(item) for item in items)
    return next((quantity(value) for value in values if value is not None), None)
