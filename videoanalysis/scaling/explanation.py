"""A snapshot of a release comes in, an explanation of each replica count goes out. No cluster, no clock.

An explanation lists the demand, what limits or holds the count, pods that are not ready, and the next change.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from math import ceil

from videoanalysis.scaling.arithmetic import SCALE_DOWN, SCALE_UP, SYNC_SECONDS, desired_replicas
from videoanalysis.scaling.finding import Finding, number, sentence, span, when
from videoanalysis.scaling.outlook import outlook_of
from videoanalysis.scaling.snapshot import Snapshot, Workload

# Loading a large model takes minutes; the chart's startup probe ends a pod that takes longer than it allows.
_START_SECONDS = 600
# The HPA's names of the limits that the outlook reports itself.
_LIMITS = {
    "TooManyReplicas": "AT_MAXIMUM",
    "TooFewReplicas": "AT_MINIMUM",
    "ScaleUpLimit": "STEP_LIMITED",
    "ScaleDownLimit": "STEP_LIMITED",
}
_REMEDIES = {
    "ImagePullBackOff": "Check image.registry, the tag, and imagePullSecrets.",
    "ErrImagePull": "Check image.registry, the tag, and imagePullSecrets.",
    "InvalidImageName": "Check image.registry, the tag, and imagePullSecrets.",
    "CrashLoopBackOff": "kubectl logs --previous shows why it ended.",
    "Restarted": "kubectl logs --previous shows why it ended.",
    "NotReady": "kubectl logs shows what it waits for; readiness does not depend on load.",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """`wanted` is the count for the demand alone, `expected` the next count, if it can be computed.

    Both, `demand` and `target` (per replica), are None where they are unknown.
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
        up, down = (hpa.scale_up, hpa.scale_down) if hpa else (SCALE_UP, SCALE_DOWN)
        wanted = desired_replicas(demand, target, workload.existing, up, down)
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
            *_demand_findings(workload, snapshot, demand, target, wanted),
            *outlook.findings,
            *_hpa_conditions(workload, {finding.code for finding in outlook.findings}),
            *_disagreement(workload, snapshot, target),
            *_pods(workload, snapshot),
        ),
    )


def _demand(workload: Workload, snapshot: Snapshot) -> float | None:
    """The sum of our gauges; without any, the metric of KEDA or of the HPA, unless a fallback sets it."""
    if (demand := snapshot.demand(workload.service)) is not None:
        return demand
    if workload.scaled_object is not None and workload.scaled_object.has("Fallback"):
        return None
    if workload.metric_now is not None:
        return workload.metric_now
    return workload.hpa.metric if workload.hpa else None


def _demand_findings(
    workload: Workload, snapshot: Snapshot, demand: float | None, target: float | None, wanted: int | None
) -> Iterator[Finding]:
    shares = [
        f"{number(gauges.depths[workload.service])} at {gauges.pod}{' (draining)' if gauges.is_draining else ''}"
        for gauges in snapshot.gauges
        if gauges.depths is not None
    ]
    if demand is None:
        yield Finding("DEMAND_UNKNOWN", "The demand is unknown.", is_wrong=workload.hpa is not None)
    else:
        source = f": {', '.join(shares)}" if shares else ", as last read by the autoscaler"
        yield Finding("DEMAND", f"{number(demand)} in all{source}.")
    if unread := [f"{each.pod} ({each.problem})" for each in snapshot.gauges if each.depths is None]:
        yield Finding(
            "GAUGE_UNREADABLE",
            f"The gauges of {', '.join(unread)} could not be read{'; they are not in the sum' if shares else ''}.",
            "The API server must reach the scaling port of the ingress pods (NetworkPolicy), and you need `get` on "
            "pods/proxy. The autoscaler reads them by another path.",
        )
    if demand is None or not target or wanted is None:
        return
    share = f"{number(target)} per replica: {number(demand)} / {number(target)}"
    if workload.existing and wanted == workload.existing and ceil(demand / target) != wanted:
        yield Finding(
            "WITHIN_TOLERANCE",
            f"{share} would be {ceil(demand / target)}, but {workload.existing} replicas are at "
            f"{demand / (target * workload.existing):.0%} of their target, and the HPA leaves it at {wanted} within "
            "its tolerance.",
        )
    else:
        yield Finding("WANTED", f"{share} = {number(demand / target)}, rounded up {wanted}.")


def _hpa_conditions(workload: Workload, reported: Set[str]) -> Iterator[Finding]:
    """Conditions of the HPA's last sync that are not `reported` already."""
    if workload.hpa is None or workload.replicas == 0:
        return
    able, limited = (workload.hpa.conditions.get(kind) for kind in ("AbleToScale", "ScalingLimited"))
    if able is not None and able.is_true is False:
        text = f"The HPA {workload.hpa.name} cannot set the count: {able.reason}: {able.message}"
        yield Finding("UNABLE_TO_SCALE", text, is_wrong=True)
    if limited is not None and limited.is_true and _LIMITS.get(limited.reason) not in reported:
        text = f"At its last sync the HPA was limited: {limited.reason}: {sentence(limited.message)}"
        yield Finding("SCALING_LIMITED", text)


def _disagreement(workload: Workload, snapshot: Snapshot, target: float | None) -> Iterator[Finding]:
    """Compares KEDA's metric, or else the HPA's last one, with the sum of our gauges."""
    ours, scaled, hpa = snapshot.demand(workload.service), workload.scaled_object, workload.hpa
    if ours is None or any(gauges.depths is None for gauges in snapshot.gauges):
        return
    # A fallback sets a metric of its own; a metric that cannot be read has a finding of its own.
    if scaled is not None and (scaled.has("Fallback") or scaled.is_paused):
        return
    slack = max(target or 0.0, 1.0)
    before = snapshot.sums_before.get(workload.service, ours)
    low, high = min(ours, before) * 0.9 - slack, max(ours, before) * 1.1 + slack
    if (theirs := workload.metric_now) is not None:
        if low <= theirs <= high:
            return
        is_live = scaled is None or scaled.trigger == "metrics-api"
        yield Finding(
            "DISAGREEMENT",
            f"The autoscaler reads {number(theirs)} now, the ingress pods together report {number(ours)}.",
            "It does not reach some of the ingress pods (a NetworkPolicy without KEDA's namespace?), reads another "
            "Service, or does not sum (aggregationType)."
            if is_live
            else "Prometheus lags by its scrape interval; if this persists, it does not scrape all ingress pods.",
            is_wrong=is_live,
        )
    elif hpa is not None and hpa.metric is not None and not low <= hpa.metric <= high:
        yield Finding(
            "DISAGREEMENT",
            f"The HPA last read {number(hpa.metric)}, the ingress pods now report {number(ours)}: it reads every "
            f"{SYNC_SECONDS:.0f} s. If this persists, it does not reach all of them.",
        )


def _pods(workload: Workload, snapshot: Snapshot) -> Iterator[Finding]:
    """Pods that are not ready, drain, or were replaced."""
    if workload.replica_failure:
        yield Finding("PODS_REFUSED", f"Pods cannot be created: {workload.replica_failure}", is_wrong=True)
    over = sorted((pod for pod in workload.pods if pod.is_over), key=lambda pod: pod.created)
    if over:
        last = over[-1]
        count = f"{len(over)} {'pod has' if len(over) == 1 else 'pods have'} ended and been replaced"
        age = span((snapshot.at - last.created).total_seconds())
        text = f"{count}, the latest of them {last.name}, created {age} ago: {last.trouble}: {sentence(last.state)}"
        yield Finding("PODS_ENDED", text)
    depths = {gauges.pod: gauges.depths for gauges in snapshot.gauges}
    for pod in (pod for pod in workload.pods if not pod.is_over):
        events = f" {'; '.join(pod.events)}." if pod.events else ""
        seconds = (snapshot.at - pod.created).total_seconds()
        if pod.ends_at is not None:
            work = ""
            if held := depths.get(pod.name):
                parts = [f"{number(n)} at the {name}s" for name, n in held.items() if n and name != "ingress"]
                work = f", with work in progress: {', '.join(parts)}" if parts else ", with no work left"
            text = f"{pod.name} drains, until {when(pod.ends_at, snapshot.at)} at the latest{work}."
            yield Finding("POD_DRAINING", text)
        elif pod.trouble:
            reason = f"{pod.trouble}: {sentence(pod.state)}"
            text = f"{pod.name}, created {span(seconds)} ago, is not ready: {reason}{events}"
            yield Finding(f"POD_{_upper_snake(pod.trouble)}", text, _remedy(pod.trouble, pod.state), is_wrong=True)
        elif not pod.is_ready and seconds > _START_SECONDS:
            text = f"{pod.name} is not ready {span(seconds)} after its creation: it {pod.state}.{events}"
            yield Finding("POD_SLOW_START", text, f"kubectl logs {pod.name}", is_wrong=True)
        elif not pod.is_ready:
            yield Finding("POD_STARTING", f"{pod.name}, {span(seconds)} old, {pod.state}.{events}")


def _remedy(trouble: str, state: str) -> str:
    if trouble == "Unschedulable":
        if "gpu" in state.lower():
            return "No node has a free GPU: add nodes, or lower the service's maximum to the number of GPUs."
        return "No node has the resources that it requests: add nodes, or request less."
    return _REMEDIES.get(trouble, "")


def _upper_snake(words: str) -> str:
    """ImagePullBackOff as IMAGE_PULL_BACK_OFF."""
    return "".join(f"_{char}" if char.isupper() and index else char for index, char in enumerate(words)).upper()
