"""The arithmetic of KEDA and of the HorizontalPodAutoscaler (HPA): from a metric to a number of replicas.

Pure functions of numbers: no cluster, no clock, no memory. `videoanalysis scale explain` applies them to a live
cluster, the capacity simulation of the load tests to simulated time. Times are seconds from any common origin.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Literal

# The controller manager's --horizontal-pod-autoscaler-sync-period, which a chart cannot change.
SYNC_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `value` pods, or percent of them, are added or removed within `period_seconds`."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction of an HPA's behavior."""

    stabilization_seconds: float
    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float = 0.1


# The defaults of Kubernetes.
SCALE_UP = Rules(0, (Policy("Percent", 100, 15), Policy("Pods", 4, 15)))
SCALE_DOWN = Rules(300, (Policy("Percent", 100, 15),))


@dataclass(frozen=True, slots=True)
class Fallback:
    """The replicas that KEDA requests once the metric has failed more than `failure_threshold` times in a row."""

    failure_threshold: int
    replicas: int
    behavior: str = "static"

    def replicas_at(self, current: int) -> int:
        match self.behavior:
            case "currentReplicas":
                return current
            case "currentReplicasIfHigher":
                return max(current, self.replicas)
            case "currentReplicasIfLower":
                return min(current, self.replicas)
            case _:
                return self.replicas


def clamp(number: int, low: int, high: int) -> int:
    return min(max(number, low), high)


def desired_replicas(metric: float, target: float, current: int, up: Rules = SCALE_UP, down: Rules = SCALE_DOWN) -> int:
    """The HPA's count for an AverageValue target; a deviation within the tolerance changes nothing."""
    if current > 0 and 1 - down.tolerance <= metric / (target * current) <= 1 + up.tolerance:
        return current
    return ceil(metric / target)


def stabilized(
    desired: int, current: int, recommendations: Iterable[tuple[float, int]], now: float, up: Rules, down: Rules
) -> int:
    """The current count, moved to the lowest recommendation in the window of `up` or the highest in that of `down`.

    `recommendations` are past desired counts with their times; `desired` is the present one.
    """
    past = list(recommendations)
    lowest = min([desired, *(count for at, count in past if at > now - up.stabilization_seconds)])
    highest = max([desired, *(count for at, count in past if at > now - down.stabilization_seconds)])
    return min(max(current, lowest), highest)


def step_limit(current: int, rules: Rules, changes: Iterable[tuple[float, int]], now: float, sign: int) -> int:
    """The furthest count that the policies allow now: upwards with `sign` +1, downwards with -1.

    `changes` are past changes of the count in both directions with their times; removed replicas are negative.
    """
    if rules.select == "Disabled":
        return current
    past = list(changes)
    limits = []
    for policy in rules.policies:
        at_start = current - sum(change for at, change in past if at > now - policy.period_seconds)
        if policy.kind == "Pods":
            limits.append(at_start + sign * policy.value)
        else:
            # In floating point as in the controller, rounding errors included.
            limit = at_start * (1 + sign * policy.value / 100)
            limits.append(ceil(limit) if sign > 0 else int(limit))
    furthest = max(limits) if (rules.select == "Max") == (sign > 0) else min(limits)
    return max(current, furthest) if sign > 0 else min(current, furthest)


def zero_from(
    last_active: float | None, created: float, cooldown_seconds: float, initial_cooldown_seconds: float
) -> float:
    """The time from which KEDA scales an idle workload to zero, if its minimum is zero."""
    if last_active is None:
        return created + initial_cooldown_seconds
    return last_active + cooldown_seconds
