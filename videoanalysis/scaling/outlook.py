"""Who decides on the count now, KEDA, the HPA or nobody, and what comes next."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from videoanalysis.scaling.arithmetic import changes, clamp, fallback_count, furthest_step
from videoanalysis.scaling.finding import Finding
from videoanalysis.scaling.phrasing import clock, number, span, stop, when
from videoanalysis.scaling.snapshot import Hpa, Rules, ScaledObject, Workload
from videoanalysis.wording import count

# The controller manager's --horizontal-pod-autoscaler-sync-period, which a chart cannot change.
SYNC_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Outlook:
    """`expected` is the count that comes next, None if nobody can tell; `findings` say why."""

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
        return Outlook(replicas, f"{stays} until somebody changes the Deployment.", (Finding("NOT_SCALED", text),))
    if scaled is not None:
        if scaled.is_paused or scaled.says("Paused"):
            return _paused(scaled, replicas, wanted)
        if trouble := _trouble(scaled, replicas):
            return trouble
    if replicas == 0:
        return _at_zero(workload, demand)
    if hpa is None:
        assert scaled is not None
        text = f"KEDA has made no HPA for the ScaledObject {scaled.name}: between 1 and the maximum nothing scales."
        remedy = "Look at the log of KEDA's operator."
        return Outlook(replicas, f"{stays}.", (Finding("HPA_MISSING", text, remedy, is_wrong=True),))
    active = hpa.conditions.get("ScalingActive")
    # Of an HPA that has not looked yet since KEDA left zero.
    was_asleep = active is not None and active.reason == "ScalingDisabled"
    if active is not None and active.is_true is False and not was_asleep:
        text = f"The HPA {hpa.name} cannot read its metric: {active.reason}: {active.message}"
        remedy = "Without a metric it keeps the count. " + _metric_remedy(scaled)
        return Outlook(
            replicas,
            f"{stays} until the metric can be read again.",
            (Finding("METRIC_UNREADABLE", text, remedy, is_wrong=True),),
        )
    if demand is None or not target or wanted is None:
        text = f"The HPA {hpa.name} has no external metric with an average value for a target."
        return Outlook(None, "What comes next cannot be told.", (Finding("TARGET_UNKNOWN", text, is_wrong=True),))
    return _by_hpa(hpa, scaled, replicas, now, demand, wanted)


def _paused(scaled: ScaledObject, replicas: int, wanted: int | None) -> Outlook:
    held_at = replicas if scaled.paused_replicas is None else scaled.paused_replicas
    is_wrong = wanted is not None and clamp(wanted, scaled.min_replicas, scaled.max_replicas) != held_at
    instead = f" The demand asks for {wanted}." if is_wrong else ""
    name = "paused" if scaled.paused_replicas is None else "paused-replicas"
    finding = Finding(
        "PAUSED",
        f"The ScaledObject {scaled.name} is paused at {count(held_at, 'replica')}.{instead}",
        f"kubectl annotate scaledobject {scaled.name} autoscaling.keda.sh/{name}-",
        is_wrong,
    )
    return Outlook(held_at, f"It is held at {held_at} until the annotation is removed.", (finding,))


def _trouble(scaled: ScaledObject, replicas: int) -> Outlook | None:
    """KEDA cannot read the metric, or the object is not right."""
    ready = scaled.conditions.get("Ready")
    is_not_ready = ready is not None and ready.is_true is False
    fallback = scaled.fallback
    findings = []
    if is_not_ready:
        assert ready is not None
        what = f"{ready.reason}: {ready.message}{stop(ready.message)}"
        said = f" KEDA says: {scaled.complaint}" if scaled.complaint else ""
        findings.append(
            Finding(
                "SCALED_OBJECT_NOT_READY",
                f"The ScaledObject {scaled.name} is not ready: {what}{said}",
                _metric_remedy(scaled),
                is_wrong=True,
            )
        )
    if fallback is not None and scaled.says("Fallback"):
        held_at = fallback_count(scaled, replicas)
        findings.append(
            Finding(
                "FALLBACK",
                f"KEDA has failed to read the metric {count(scaled.failures, 'time')} in a row, more than "
                f"{fallback.failure_threshold}, and falls back to {count(fallback.replicas, 'replica')} "
                f"({fallback.behavior}).",
                "" if is_not_ready else _metric_remedy(scaled),
                is_wrong=True,
            )
        )
        return Outlook(held_at, f"It is held at {held_at} until KEDA can read the metric again.", tuple(findings))
    if not findings:
        return None
    then = "until KEDA can read the metric again"
    if fallback is not None:
        after = f"more than {fallback.failure_threshold} failures in a row (now {scaled.failures})"
        then += f", or after {after} goes to {fallback_count(scaled, replicas)}"
    return Outlook(replicas, f"It stays at {replicas} {then}.", tuple(findings))


def _at_zero(workload: Workload, demand: float | None) -> Outlook:
    scaled = workload.scaled_object
    if scaled is None:
        text = "It has no replicas, and an HPA alone never leaves zero."
        remedy = f"kubectl scale deployment {workload.deployment} --replicas 1"
        return Outlook(0, "It stays at 0.", (Finding("STUCK_AT_ZERO", text, remedy, is_wrong=True),))
    first = max(1, scaled.min_replicas)
    over = f"more than {number(scaled.activation)}" if scaled.activation else "any work at all"
    text = f"It is at zero; {over} wakes it: KEDA looks every {number(scaled.polling_seconds)} s."
    soon = f"within {number(scaled.polling_seconds)} s"
    if scaled.min_replicas > 0:
        went = "It has no replicas although the least is " + f"{scaled.min_replicas}: somebody has scaled it by hand."
        return Outlook(first, f"KEDA goes to {first} {soon}.", (Finding("BELOW_MINIMUM", went),))
    if demand is not None and demand > scaled.activation:
        return Outlook(
            first, f"KEDA wakes it {soon}, to {first}; the HPA takes over then.", (Finding("AT_ZERO", text),)
        )
    return Outlook(0, "It stays at 0 until there is work.", (Finding("AT_ZERO", text),))


def _by_hpa(hpa: Hpa, scaled: ScaledObject | None, replicas: int, now: datetime, demand: float, wanted: int) -> Outlook:
    low, high = hpa.min_replicas, hpa.max_replicas
    findings = []
    if wanted > high:
        findings.append(
            Finding(
                "AT_MAXIMUM",
                f"The demand asks for {wanted} replicas, the most is {high}: the rest of the work waits.",
                "Raise the service's maximum, if there are machines for it.",
                is_wrong=True,
            )
        )
    elif wanted < low:
        findings.append(Finding("AT_MINIMUM", f"The least is {count(low, 'replica')}."))
    bounded = clamp(wanted, low, high)
    soon = f"within {SYNC_SECONDS} s, the HPA's period,"
    sleeps = _going_to_sleep(scaled, demand, now)
    if not low <= replicas <= high:
        text = f"{replicas} is outside of the limits, {low} to {high}: somebody has scaled it by hand."
        nearest = clamp(replicas, low, high)
        return Outlook(
            nearest, f"The HPA brings it to {nearest} {soon[:-1]}.", (*findings, Finding("OUTSIDE_LIMITS", text))
        )
    if bounded == replicas:
        return Outlook(replicas, sleeps or f"It stays at {replicas} while the demand does.", tuple(findings))
    sign = 1 if bounded > replicas else -1
    rules = hpa.scale_up if sign > 0 else hpa.scale_down
    step = furthest_step(replicas, rules, changes(hpa, sign), now, sign)
    goes_to = min(bounded, step) if sign > 0 else max(bounded, step)
    if goes_to != bounded:
        findings.append(_limited(rules, replicas, step, sign))
    if step == replicas:
        is_off = rules.select == "Disabled"
        waits = f"It stays at {replicas}{'' if is_off else ' until the period of the last step is over'}."
        return Outlook(replicas, sleeps or waits, tuple(findings))
    if rules.stabilization_seconds:
        held, until = _held(hpa, rules, replicas, now, sign)
        findings.append(held)
        return Outlook(replicas, f"{until} it goes to {goes_to}.{' ' + sleeps if sleeps else ''}", tuple(findings))
    verb = "goes up" if sign > 0 else "goes down"
    return Outlook(goes_to, f"It {verb} to {goes_to} {soon[:-1]}.{' ' + sleeps if sleeps else ''}", tuple(findings))


def _held(hpa: Hpa, rules: Rules, replicas: int, now: datetime, sign: int) -> tuple[Finding, str]:
    """By a past recommendation. The cluster does not say when that was, only when it last acted on one."""
    window = rules.stabilization_seconds
    latest = now + timedelta(seconds=window)
    earliest = hpa.last_scale and hpa.last_scale + timedelta(seconds=window)
    than = f"{replicas} or {'more' if sign < 0 else 'less'}"
    able = hpa.conditions.get("AbleToScale")
    holds = "holds" if able is not None and able.reason in ("ScaleDownStabilized", "ScaleUpStabilized") else "may hold"
    if earliest is not None and earliest > now:
        assert hpa.last_scale is not None
        text = (
            f"A recommendation of {than} {holds} it: the latest known is of {clock(hpa.last_scale)}, when it was last "
            f"scaled, and each counts for {span(window)}."
        )
        until = f"Not before {when(earliest, now)} and, if the demand stays as it is, by {when(latest, now)}"
    else:
        text = f"A recommendation of {than}, made within the last {span(window)}, {holds} it that long."
        until = f"If the demand stays as it is, by {when(latest, now)}"
    return Finding("HELD_DOWN" if sign > 0 else "HELD_UP", text), until


def _limited(rules: Rules, replicas: int, step: int, sign: int) -> Finding:
    way = "up" if sign > 0 else "down"
    if rules.select == "Disabled":
        return Finding(f"SCALE_{way.upper()}_DISABLED", f"Scaling {way} is switched off (selectPolicy: Disabled).")
    policies = " or ".join(
        f"{policy.value}{' %' if policy.kind == 'Percent' else ''} per {span(policy.period_seconds)}"
        for policy in rules.policies
    )
    which = ", the larger" if rules.select == "Max" and len(rules.policies) > 1 else ""
    which = ", the smaller" if rules.select == "Min" and len(rules.policies) > 1 else which
    reach = f"to {step} at most" if step != replicas else "and the last step has used that up"
    return Finding("STEP_LIMITED", f"One step {way} is {policies}{which}: from {replicas} {reach}.")


def _going_to_sleep(scaled: ScaledObject | None, demand: float, now: datetime) -> str:
    if scaled is None or scaled.min_replicas > 0 or demand > scaled.activation:
        return ""
    since, cooldown = scaled.last_active, scaled.cooldown_seconds
    if since is None:
        since, cooldown = scaled.created or now, scaled.initial_cooldown_seconds
    sleeps = max(now + timedelta(seconds=scaled.polling_seconds), since + timedelta(seconds=cooldown))
    return f"KEDA puts it to 0 at about {when(sleeps, now)} unless work comes."


def _metric_remedy(scaled: ScaledObject | None) -> str:
    if scaled is not None and scaled.trigger == "metrics-api":
        return (
            "Is an ingress pod running, and may KEDA's operator reach its scaling port (NetworkPolicy)? "
            f"kubectl describe scaledobject {scaled.name} shows KEDA's events."
        )
    return f"kubectl describe scaledobject {scaled.name} shows KEDA's events." if scaled is not None else ""
