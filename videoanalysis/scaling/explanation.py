"""Why the count is what it is and what will happen next: the rules of the HPA and of KEDA, applied to a snapshot.

Nothing here asks a cluster or a clock.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from math import ceil

from videoanalysis.scaling.arithmetic import wanted_replicas
from videoanalysis.scaling.finding import Finding
from videoanalysis.scaling.outlook import SYNC_SECONDS, outlook_of
from videoanalysis.scaling.phrasing import number, stop
from videoanalysis.scaling.pods import pods
from videoanalysis.scaling.snapshot import Snapshot, Workload

# What the HPA calls what we have worked out ourselves.
_LIMITS = {
    "TooManyReplicas": "AT_MAXIMUM",
    "TooFewReplicas": "AT_MINIMUM",
    "ScaleUpLimit": "STEP_LIMITED",
    "ScaleDownLimit": "STEP_LIMITED",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """`wanted` is what the demand alone asks for, `expected` the count that comes next as far as can be told now.

    Both, `demand` and `target` (per replica), are None where they are not known.
    """

    service: str
    deployment: str
    replicas: int
    ready: int
    min_replicas: int | None
    max_replicas: int | None
    demand: float | None
    target: float | None
    wanted: int | None
    expected: int | None
    next: str
    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        return not any(finding.is_wrong for finding in self.findings)


def explain(snapshot: Snapshot) -> tuple[Explanation, ...]:
    return tuple(_explain(workload, snapshot) for workload in snapshot.workloads)


def _explain(workload: Workload, snapshot: Snapshot) -> Explanation:
    hpa, scaled = workload.hpa, workload.scaled_object
    demand = _demand(workload, snapshot)
    target = next((each.target for each in (hpa, scaled) if each and each.target), None)
    rule = scaled or hpa
    wanted = None
    if demand is not None and target:
        down, up = (hpa.scale_down.tolerance, hpa.scale_up.tolerance) if hpa else (0.1, 0.1)
        wanted = wanted_replicas(demand, target, workload.existing, down, up)
    outlook = outlook_of(workload, snapshot.at, demand, target, wanted)
    return Explanation(
        service=workload.service,
        deployment=workload.deployment,
        replicas=workload.replicas,
        ready=workload.ready,
        min_replicas=rule.min_replicas if rule else None,
        max_replicas=rule.max_replicas if rule else None,
        demand=demand,
        target=target,
        wanted=wanted,
        expected=outlook.expected,
        next=outlook.next,
        findings=(
            *_told_demand(workload, snapshot, demand, target, wanted),
            *outlook.findings,
            *_hpa_says(workload, {finding.code for finding in outlook.findings}),
            *_disagreement(workload, snapshot, target),
            *pods(workload, snapshot),
        ),
    )


def _demand(workload: Workload, snapshot: Snapshot) -> float | None:
    """The sum of our gauges; without any of them, what KEDA or the HPA say, unless it is made up by a fallback."""
    if (sum_of_ours := _sum(workload.service, snapshot)) is not None:
        return sum_of_ours
    if workload.scaled_object is not None and workload.scaled_object.says("Fallback"):
        return None
    if workload.metric_now is not None:
        return workload.metric_now
    return workload.hpa.metric if workload.hpa else None


def _sum(service: str, snapshot: Snapshot) -> float | None:
    known = [gauges.depths[service] for gauges in snapshot.gauges if gauges.depths is not None]
    return sum(known) if known else None


def _told_demand(
    workload: Workload, snapshot: Snapshot, demand: float | None, target: float | None, wanted: int | None
) -> Iterator[Finding]:
    shares = [
        f"{number(gauges.depths[workload.service])} at {gauges.pod}{' (draining)' if gauges.is_draining else ''}"
        for gauges in snapshot.gauges
        if gauges.depths is not None
    ]
    unread = [gauges for gauges in snapshot.gauges if gauges.depths is None]
    if demand is None:
        yield Finding("DEMAND_UNKNOWN", "Nobody can say how much work there is.", is_wrong=workload.hpa is not None)
    else:
        whence = f": {', '.join(shares)}" if shares else ", as the autoscaler saw it last"
        yield Finding("DEMAND", f"{number(demand)} in all{whence}.")
    if unread:
        yield Finding(
            "GAUGE_UNREADABLE",
            f"The gauges of {', '.join(f'{each.pod} ({each.problem})' for each in unread)} could not be read"
            + ("; they are not in the sum." if shares else "."),
            "The API server must reach the scaling port of the ingress pods (NetworkPolicy), and you need `get` on "
            "pods/proxy. The autoscaler reads by a way of its own.",
        )
    if demand is None or not target or wanted is None:
        return
    if workload.existing and wanted == workload.existing and ceil(demand / target) != wanted:
        ratio = demand / (target * workload.existing)
        yield Finding(
            "WITHIN_TOLERANCE",
            f"{number(target)} per replica: {number(demand)} / {number(target)} would be "
            f"{ceil(demand / target)}, but {workload.existing} replicas are at {ratio:.0%} of their target, and the "
            f"HPA leaves it at {wanted} within its tolerance.",
        )
    else:
        yield Finding(
            "WANTED",
            f"{number(target)} per replica: {number(demand)} / {number(target)} = {number(demand / target)}, "
            f"rounded up {wanted}.",
        )


def _hpa_says(workload: Workload, told: Set[str]) -> Iterator[Finding]:
    """Conditions of the HPA that are not `told` already; they are of its last look."""
    if workload.hpa is None or workload.replicas == 0:
        return
    able, limited = (workload.hpa.conditions.get(kind) for kind in ("AbleToScale", "ScalingLimited"))
    if able is not None and able.is_true is False:
        text = f"The HPA {workload.hpa.name} cannot set the count: {able.reason}: {able.message}"
        yield Finding("UNABLE_TO_SCALE", text, is_wrong=True)
    if limited is not None and limited.is_true and _LIMITS.get(limited.reason) not in told:
        text = f"When the HPA looked last it was limited: {limited.reason}: {limited.message}{stop(limited.message)}"
        yield Finding("SCALING_LIMITED", text)


def _disagreement(workload: Workload, snapshot: Snapshot, target: float | None) -> Iterator[Finding]:
    """What KEDA reads now, or else what the HPA saw last, beside what our pods say."""
    ours, before = _sum(workload.service, snapshot), snapshot.sums_before.get(workload.service)
    if ours is None or any(gauges.depths is None for gauges in snapshot.gauges):
        return
    scaled, hpa = workload.scaled_object, workload.hpa
    # A fallback makes its own metric, and one that cannot be read is told of elsewhere.
    if scaled is not None and (scaled.says("Fallback") or scaled.is_paused):
        return
    slack = max(target or 0.0, 1.0)
    low, high = min(ours, ours if before is None else before), max(ours, ours if before is None else before)
    if (theirs := workload.metric_now) is not None:
        if low * 0.9 - slack <= theirs <= high * 1.1 + slack:
            return
        is_live = scaled is None or scaled.trigger == "metrics-api"
        yield Finding(
            "DISAGREEMENT",
            f"The autoscaler reads {number(theirs)} now, the ingress pods together say {number(ours)}.",
            "It does not reach some of the ingress pods (a NetworkPolicy without KEDA's namespace?), reads another "
            "Service, or does not sum (aggregationType)."
            if is_live
            else "Prometheus lags by its scrape interval; if this stays, it does not scrape all of the ingress pods.",
            is_wrong=is_live,
        )
    elif hpa is not None and hpa.metric is not None and not low * 0.9 - slack <= hpa.metric <= high * 1.1 + slack:
        yield Finding(
            "DISAGREEMENT",
            f"The HPA last saw {number(hpa.metric)}, the ingress pods now say {number(ours)}: it looks every "
            f"{SYNC_SECONDS} s. If this stays, it does not see all of them.",
        )
