"""What the HPA and KEDA reckon: demand to replicas, limits, steps."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

from videoanalysis.scaling.snapshot import Hpa, Rules, ScaledObject


def wanted_replicas(demand: float, target: float, existing: int, tolerance_down: float, tolerance_up: float) -> int:
    """As the HPA reckons with an AverageValue: deviations within the tolerance change nothing."""
    if existing > 0 and 1 - tolerance_down <= demand / (target * existing) <= 1 + tolerance_up:
        return existing
    return ceil(demand / target)


def furthest_step(
    replicas: int, rules: Rules, changes: Sequence[tuple[datetime, int]], now: datetime, sign: int
) -> int:
    """How far the policies let the count go now, up with `sign` +1 and down with -1.

    `changes` are what was added in that direction, or removed, and when.
    """
    if rules.select == "Disabled":
        return replicas
    proposals = []
    for policy in rules.policies:
        since = now - timedelta(seconds=policy.period_seconds)
        began = replicas - sign * sum(size for at, size in changes if at > since)
        if policy.kind == "Pods":
            proposals.append(began + sign * policy.value)
        else:
            proposal = began * (1 + sign * policy.value / 100)
            proposals.append(ceil(proposal) if sign > 0 else int(proposal))
    furthest = max if (rules.select == "Max") == (sign > 0) else min
    return max(replicas, furthest(proposals)) if sign > 0 else min(replicas, furthest(proposals))


def changes(hpa: Hpa, sign: int) -> list[tuple[datetime, int]]:
    """What each known rescaling added, or removed."""
    pairs = zip(hpa.rescales, hpa.rescales[1:], strict=False)
    return [
        (later.at, sign * (later.size - earlier.size))
        for earlier, later in pairs
        if sign * (later.size - earlier.size) > 0
    ]


def fallback_count(scaled: ScaledObject, replicas: int) -> int:
    assert scaled.fallback is not None
    asked = scaled.fallback.replicas
    match scaled.fallback.behavior:
        case "currentReplicas":
            held_at = replicas
        case "currentReplicasIfHigher":
            held_at = max(replicas, asked)
        case "currentReplicasIfLower":
            held_at = min(replicas, asked)
        case _:
            held_at = asked
    return clamp(held_at, scaled.min_replicas, scaled.max_replicas)


def clamp(number: int, low: int, high: int) -> int:
    return min(max(number, low), high)
