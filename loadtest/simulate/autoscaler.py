"""KEDA and the HPA of one service on simulated time: a metric comes in, a replica count goes out."""

from collections import deque
from dataclasses import dataclass

from videoanalysis.scaling.arithmetic import (
    SCALE_DOWN,
    SCALE_UP,
    Fallback,
    Rules,
    clamp,
    desired_replicas,
    stabilized,
    step_limit,
    zero_from,
)


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """What a ScaledObject specifies, with the defaults of KEDA and Kubernetes. The target is per replica."""

    min_replicas: int
    max_replicas: int
    target: float
    polling_seconds: float = 30
    cooldown_seconds: float = 300
    initial_cooldown_seconds: float = 0
    activation: float = 0  # a workload at zero starts when the metric exceeds it
    fallback: Fallback | None = None
    scale_up: Rules = SCALE_UP
    scale_down: Rules = SCALE_DOWN

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(
                f"replicas: {self.min_replicas} to {self.max_replicas} is no range; 0 <= min <= max, max >= 1"
            )
        if self.target <= 0:
            raise ValueError(f"target: {self.target:g}, must be above 0")
        if self.polling_seconds <= 0:
            raise ValueError(f"pollingInterval: {self.polling_seconds:g}, must be above 0")


class Keda:
    """KEDA's operator for one ScaledObject: it scales from zero and to zero, and serves the metric to the HPA."""

    def __init__(self, rule: Autoscaling) -> None:
        self._rule = rule
        self._last_active: float | None = None
        self._failures = 0

    def metric(self, reading: float | None, current: int) -> float | None:
        """The value that the HPA gets; None if the source failed. Each call counts as an attempt."""
        if reading is not None:
            self._failures = 0
            return reading
        self._failures += 1
        fallback = self._rule.fallback
        if fallback is None or self._failures <= fallback.failure_threshold:
            return None
        return fallback.replicas_at(current) * self._rule.target

    def poll(self, now: float, reading: float | None, current: int) -> int:
        """The replicas to request after a poll, given those requested now."""
        rule, metric = self._rule, self.metric(reading, current)
        if metric is None:
            return current
        if metric > rule.activation:
            self._last_active = now
            return current or max(1, rule.min_replicas)
        if rule.min_replicas == 0 and now >= zero_from(
            self._last_active, 0.0, rule.cooldown_seconds, rule.initial_cooldown_seconds
        ):
            return 0
        return max(current, rule.min_replicas)


class Hpa:
    """The HorizontalPodAutoscaler of one external metric: remembers its recommendations and its changes."""

    def __init__(self, rule: Autoscaling) -> None:
        self._rule = rule
        # Only KEDA scales below one.
        self._min = max(1, rule.min_replicas)
        up, down = rule.scale_up, rule.scale_down
        self._memory = max(
            up.stabilization_seconds,
            down.stabilization_seconds,
            *(policy.period_seconds for policy in (*up.policies, *down.policies)),
        )
        self._recommendations: deque[tuple[float, int]] = deque()
        # Removed replicas are negative.
        self._changes: deque[tuple[float, int]] = deque()

    def sync(self, now: float, metric: float | None, current: int) -> int:
        """The replicas to request, given those requested now; None is a metric that cannot be read."""
        if not self._recommendations:
            self._recommendations.append((now, current))
        if current == 0:
            return 0  # ScalingDisabled
        replicas = self._replicas(now, metric, current)
        if replicas != current:
            self._changes.append((now, replicas - current))
        for past in (self._recommendations, self._changes):
            # The last entry stays: an empty history stands for the first sync.
            while len(past) > 1 and past[0][0] < now - self._memory:
                past.popleft()
        return replicas

    def _replicas(self, now: float, metric: float | None, current: int) -> int:
        rule = self._rule
        in_range = clamp(current, self._min, rule.max_replicas)
        if metric is None or in_range != current:
            return in_range
        up, down = rule.scale_up, rule.scale_down
        desired = desired_replicas(metric, rule.target, current, up, down)
        wanted = stabilized(desired, current, self._recommendations, now, up, down)
        self._recommendations.append((now, desired))
        lowest = step_limit(current, down, self._changes, now, -1)
        highest = step_limit(current, up, self._changes, now, +1)
        return clamp(clamp(wanted, lowest, highest), self._min, rule.max_replicas)


class Autoscaler:
    """KEDA and the HPA of one service. The two act at their own intervals."""

    def __init__(self, rule: Autoscaling) -> None:
        self._keda = Keda(rule)
        self._hpa = Hpa(rule)

    def poll(self, now: float, reading: float | None, current: int) -> int:
        """KEDA, every `polling_seconds`. A reading of None is a source that failed."""
        return self._keda.poll(now, reading, current)

    def sync(self, now: float, reading: float | None, current: int) -> int:
        """The HPA, every sync period. It reads through KEDA's adapter, but not while the workload is at zero."""
        return self._hpa.sync(now, self._keda.metric(reading, current) if current else None, current)
