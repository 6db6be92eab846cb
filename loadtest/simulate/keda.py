"""KEDA's operator for one ScaledObject: it alone wakes a workload from zero and sends it back there."""

from loadtest.simulate.autoscaling import Autoscaling


class Keda:
    """Remembers when it last saw activity, and how often in a row the source failed; time is what it is told."""

    def __init__(self, rule: Autoscaling, created: float = 0.0) -> None:
        self._rule = rule
        self._created = created
        self._last_active: float | None = None
        self._failures = 0

    def metric(self, reading: float | None, current: int) -> float | None:
        """What the HPA is told when it asks; None is a source that failed. Each question counts as an attempt."""
        if reading is not None:
            self._failures = 0
            return reading
        self._failures += 1
        fallback = self._rule.fallback
        if fallback is None or self._failures <= fallback.failure_threshold:
            return None
        return fallback.of(current) * self._rule.target

    def poll(self, now: float, reading: float | None, current: int) -> int:
        """The replicas to have, given those that are asked for now."""
        metric = self.metric(reading, current)
        if metric is None:
            return current
        if metric > self._rule.activation:
            self._last_active = now
            return current or max(1, self._rule.min_replicas)
        if current < self._rule.min_replicas:
            return self._rule.min_replicas
        if self._rule.min_replicas == 0 and current > 0 and self._cooled_down(now):
            return 0
        return current

    def _cooled_down(self, now: float) -> bool:
        if self._last_active is None:
            return now >= self._created + self._rule.initial_cooldown_seconds
        return now >= self._last_active + self._rule.cooldown_seconds
