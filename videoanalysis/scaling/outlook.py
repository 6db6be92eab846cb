"""Which controller sets the replica count now, KEDA or the HPA, and the next change that it will make."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from videoanalysis.formatting import count
from videoanalysis.scaling.arithmetic import SYNC_SECONDS, Rules, clamp, step_limit, zero_from
from videoanalysis.scaling.finding import Finding, clock, number, sentence, span, when
from videoanalysis.scaling.snapshot import Hpa, ScaledObject, Workload

_SOON = f"within {SYNC_SECONDS:.0f} s, the HPA's period"


@dataclass(frozen=True, slots=True)
class Outlook:
    """`expected` is the next count, None if it cannot be computed; `findings` give the reasons."""

    expected: int | None
    next: str
    findings: tuple[Finding, ...] = ()


def outlook_of(
    workload: Workload, now: datetime, demand: float | None, target: float | None, wanted: int | None
) -> Outlook:
    hpa, scaled, replicas = workload.hpa, workload.scaled_object, workload.replicas
    stays = f"It stays at {replicas}"
    if scaled is None and hpa is None:
        text = "Nothing scales this service: neither a ScaledObject nor an HPA names its Deployment."
        return Outlook(replicas, f"{stays} until the Deployment is changed.", (Finding("NOT_SCALED", text),))
    if scaled is not None:
        if scaled.is_paused or scaled.has("Paused"):
            return _paused(scaled, replicas, wanted)
        if failing := _failing(scaled, replicas):
            return failing
    if replicas == 0:
        return _at_zero(workload, demand)
    if hpa is None:
        assert scaled is not None
        text = f"KEDA has created no HPA for the ScaledObject {scaled.name}: nothing scales between 1 and the maximum."
        remedy = "Look at the log of KEDA's operator."
        return Outlook(replicas, f"{stays}.", (Finding("HPA_MISSING", text, remedy, is_wrong=True),))
    active = hpa.conditions.get("ScalingActive")
    # ScalingDisabled remains from zero replicas until the first sync after that.
    if active is not None and active.is_true is False and active.reason != "ScalingDisabled":
        text = f"The HPA {hpa.name} cannot read its metric: {active.reason}: {active.message}"
        finding = Finding(
            "METRIC_UNREADABLE", text, f"Without a metric it keeps the count. {_metric_remedy(scaled)}", is_wrong=True
        )
        return Outlook(replicas, f"{stays} until the metric can be read again.", (finding,))
    if demand is None or not target or wanted is None:
        text = f"The HPA {hpa.name} has no external metric with an average value as its target."
        return Outlook(None, "The next change cannot be computed.", (Finding("TARGET_UNKNOWN", text, is_wrong=True),))
    return _by_hpa(hpa, scaled, replicas, now, demand, wanted)


def _paused(scaled: ScaledObject, replicas: int, wanted: int | None) -> Outlook:
    paused_at = replicas if scaled.paused_replicas is None else scaled.paused_replicas
    is_wrong = wanted is not None and clamp(wanted, scaled.min_replicas, scaled.max_replicas) != paused_at
    instead = f" The demand needs {wanted}." if is_wrong else ""
    annotation = "paused" if scaled.paused_replicas is None else "paused-replicas"
    finding = Finding(
        "PAUSED",
        f"The ScaledObject {scaled.name} is paused at {count(paused_at, 'replica')}.{instead}",
        f"kubectl annotate scaledobject {scaled.name} autoscaling.keda.sh/{annotation}-",
        is_wrong,
    )
    return Outlook(paused_at, f"It is held at {paused_at} until the annotation is removed.", (finding,))


def _failing(scaled: ScaledObject, replicas: int) -> Outlook | None:
    """If KEDA cannot read the metric or the object is invalid."""
    ready, fallback = scaled.conditions.get("Ready"), scaled.fallback
    findings = []
    if ready is not None and ready.is_true is False:
        text = f"The ScaledObject {scaled.name} is not ready: {ready.reason}: {sentence(ready.message)}"
        warning = f" KEDA reports: {scaled.last_warning}" if scaled.last_warning else ""
        findings.append(Finding("SCALED_OBJECT_NOT_READY", f"{text}{warning}", _metric_remedy(scaled), is_wrong=True))
    held_at = replicas
    if fallback is not None:
        held_at = clamp(fallback.replicas_at(replicas), scaled.min_replicas, scaled.max_replicas)
    if fallback is not None and scaled.has("Fallback"):
        text = (
            f"KEDA has failed to read the metric {count(scaled.failures, 'time')} in a row, more than "
            f"{fallback.failure_threshold}, and falls back to {count(fallback.replicas, 'replica')} "
            f"({fallback.behavior})."
        )
        findings.append(Finding("FALLBACK", text, "" if findings else _metric_remedy(scaled), is_wrong=True))
        return Outlook(held_at, f"It is held at {held_at} until KEDA can read the metric again.", tuple(findings))
    if not findings:
        return None
    until = "until KEDA can read the metric again"
    if fallback is not None:
        failures = f"more than {fallback.failure_threshold} failures in a row (now {scaled.failures})"
        until += f", or after {failures} goes to {held_at}"
    return Outlook(replicas, f"It stays at {replicas} {until}.", tuple(findings))


def _at_zero(workload: Workload, demand: float | None) -> Outlook:
    scaled = workload.scaled_object
    if scaled is None:
        text = "It has no replicas, and an HPA alone never scales from zero."
        remedy = f"kubectl scale deployment {workload.deployment} --replicas 1"
        return Outlook(0, "It stays at 0.", (Finding("STUCK_AT_ZERO", text, remedy, is_wrong=True),))
    first = max(1, scaled.min_replicas)
    poll = f"{number(scaled.polling_seconds)} s"
    if scaled.min_replicas > 0:
        text = f"It has no replicas although the minimum is {scaled.min_replicas}: it was scaled by hand."
        return Outlook(first, f"KEDA goes to {first} within {poll}.", (Finding("BELOW_MINIMUM", text),))
    threshold = f"more than {number(scaled.activation)}" if scaled.activation else "any work at all"
    finding = Finding("AT_ZERO", f"It is at zero; {threshold} activates it: KEDA polls every {poll}.")
    if demand is not None and demand > scaled.activation:
        return Outlook(first, f"KEDA scales it to {first} within {poll}; the HPA takes over then.", (finding,))
    return Outlook(0, "It stays at 0 until there is work.", (finding,))


def _by_hpa(hpa: Hpa, scaled: ScaledObject | None, replicas: int, now: datetime, demand: float, wanted: int) -> Outlook:
    low, high = hpa.min_replicas, hpa.max_replicas
    findings = []
    if wanted > high:
        text = f"The demand needs {wanted} replicas, the maximum is {high}: the rest of the work waits."
        remedy = "Raise the service's maximum, if there are nodes for it."
        findings.append(Finding("AT_MAXIMUM", text, remedy, is_wrong=True))
    elif wanted < low:
        findings.append(Finding("AT_MINIMUM", f"The minimum is {count(low, 'replica')}."))
    if not low <= replicas <= high:
        nearest = clamp(replicas, low, high)
        text = f"{replicas} is outside of the limits, {low} to {high}: it was scaled by hand."
        findings.append(Finding("OUTSIDE_LIMITS", text))
        return Outlook(nearest, f"The HPA sets it to {nearest} {_SOON}.", tuple(findings))
    bounded = clamp(wanted, low, high)
    to_zero = _to_zero(scaled, demand, now)
    if bounded == replicas:
        return Outlook(replicas, to_zero or f"It stays at {replicas} while the demand does.", tuple(findings))
    sign = 1 if bounded > replicas else -1
    rules = hpa.scale_up if sign > 0 else hpa.scale_down
    step = step_limit(replicas, rules, changes(hpa), now.timestamp(), sign)
    next_count = min(bounded, step) if sign > 0 else max(bounded, step)
    if next_count != bounded:
        findings.append(_limited(rules, replicas, step, sign))
    if step == replicas:
        until = "" if rules.select == "Disabled" else " until the period of the last step is over"
        return Outlook(replicas, to_zero or f"It stays at {replicas}{until}.", tuple(findings))
    if rules.stabilization_seconds:
        held, until = _stabilized(hpa, rules, replicas, now, sign)
        findings.append(held)
        return Outlook(replicas, f"{until} it goes to {next_count}. {to_zero}".strip(), tuple(findings))
    direction = "up" if sign > 0 else "down"
    return Outlook(next_count, f"It goes {direction} to {next_count} {_SOON}. {to_zero}".strip(), tuple(findings))


def changes(hpa: Hpa) -> list[tuple[float, int]]:
    """The known changes of the count with their times; removed replicas are negative."""
    pairs = zip(hpa.rescales, hpa.rescales[1:], strict=False)
    return [(after.at.timestamp(), after.size - before.size) for before, after in pairs]


def _stabilized(hpa: Hpa, rules: Rules, replicas: int, now: datetime, sign: int) -> tuple[Finding, str]:
    """A past recommendation holds the count. The cluster reports only the time of the last change."""
    window = timedelta(seconds=rules.stabilization_seconds)
    latest = when(now + window, now)
    than = f"{replicas} or {'more' if sign < 0 else 'less'}"
    able = hpa.conditions.get("AbleToScale")
    holds = "holds" if able is not None and able.reason in ("ScaleDownStabilized", "ScaleUpStabilized") else "may hold"
    if hpa.last_scale is not None and (earliest := hpa.last_scale + window) > now:
        text = (
            f"A recommendation of {than} {holds} it: the latest known is of {clock(hpa.last_scale)}, when it was last "
            f"scaled, and each counts for {span(rules.stabilization_seconds)}."
        )
        until = f"Not before {when(earliest, now)} and, if the demand stays the same, by {latest}"
    else:
        lasting = span(rules.stabilization_seconds)
        text = f"A recommendation of {than}, made within the last {lasting}, {holds} it that long."
        until = f"If the demand stays the same, by {latest}"
    return Finding("HELD_DOWN" if sign > 0 else "HELD_UP", text), until


def _limited(rules: Rules, replicas: int, step: int, sign: int) -> Finding:
    direction = "up" if sign > 0 else "down"
    if rules.select == "Disabled":
        text = f"Scaling {direction} is disabled (selectPolicy: Disabled)."
        return Finding(f"SCALE_{direction.upper()}_DISABLED", text)
    policies = " or ".join(
        f"{policy.value}{' %' if policy.kind == 'Percent' else ''} per {span(policy.period_seconds)}"
        for policy in rules.policies
    )
    if len(rules.policies) > 1:
        policies += ", the larger" if rules.select == "Max" else ", the smaller"
    reach = f"to {step} at most" if step != replicas else "the last step has used it up"
    return Finding("STEP_LIMITED", f"One step {direction} is {policies}: from {replicas} {reach}.")


def _to_zero(scaled: ScaledObject | None, demand: float, now: datetime) -> str:
    if scaled is None or scaled.min_replicas > 0 or demand > scaled.activation:
        return ""
    start = zero_from(
        scaled.last_active.timestamp() if scaled.last_active else None,
        (scaled.created or now).timestamp(),
        scaled.cooldown_seconds,
        scaled.initial_cooldown_seconds,
    )
    at = max(now + timedelta(seconds=scaled.polling_seconds), datetime.fromtimestamp(start, now.tzinfo))
    return f"KEDA scales it to 0 at about {when(at, now)} unless there is work."


def _metric_remedy(scaled: ScaledObject | None) -> str:
    if scaled is None:
        return ""
    events = f"kubectl describe scaledobject {scaled.name} shows KEDA's events."
    if scaled.trigger != "metrics-api":
        return events
    return f"Is an ingress pod running, and may KEDA's operator reach its scaling port (NetworkPolicy)? {events}"
