"""The HorizontalPodAutoscaler of one external metric with an AverageValue target, step by step as its controller."""

from collections import deque
from math import ceil

from loadtest.simulate.autoscaling import Autoscaling, Policy, Rules

# The controller manager's --horizontal-pod-autoscaler-sync-period, which a chart cannot change.
SYNC_SECONDS = 15.0


class Hpa:
    """Remembers what it recommended and did; time is what it is told."""

    def __init__(self, rule: Autoscaling) -> None:
        self._rule = rule
        # KEDA alone goes below one.
        self._min = max(1, rule.min_replicas)
        self._memory = max(
            rule.scale_up.stabilization_seconds,
            rule.scale_down.stabilization_seconds,
            *(policy.period_seconds for policy in (*rule.scale_up.policies, *rule.scale_down.policies)),
        )
        self._recommended: deque[tuple[float, int]] = deque()
        # What it added, and what it removed as a negative number.
        self._changes: deque[tuple[float, int]] = deque()

    def sync(self, now: float, metric: float | None, current: int) -> int:
        """The replicas to have, given those that are asked for now; a metric that cannot be read changes nothing."""
        if not self._recommended:
            self._recommended.append((now, current))
        if current == 0:
            return 0  # ScalingDisabled
        wanted = self._wanted(now, metric, current)
        if wanted != current:
            self._changes.append((now, wanted - current))
        self._forget(now)
        return wanted

    def _wanted(self, now: float, metric: float | None, current: int) -> int:
        if current > self._rule.max_replicas:
            return self._rule.max_replicas
        if current < self._min:
            return self._min
        if metric is None:
            return current
        return self._limited(now, self._stabilized(now, self._raw(metric, current), current), current)

    def _raw(self, metric: float, current: int) -> int:
        ratio = metric / (self._rule.target * current)
        if 1 - self._rule.scale_down.tolerance <= ratio <= 1 + self._rule.scale_up.tolerance:
            return current
        return ceil(metric / self._rule.target)

    def _stabilized(self, now: float, raw: int, current: int) -> int:
        """Not above the least recommended in the window up, not below the most in the window down."""
        up_since = now - self._rule.scale_up.stabilization_seconds
        down_since = now - self._rule.scale_down.stabilization_seconds
        up = min([raw, *(count for at, count in self._recommended if at > up_since)])
        down = max([raw, *(count for at, count in self._recommended if at > down_since)])
        self._recommended.append((now, raw))
        return min(max(current, up), down)

    def _limited(self, now: float, wanted: int, current: int) -> int:
        if wanted > current:
            limit = max(current, self._limit(now, current, self._rule.scale_up, +1))
            return min(wanted, limit, self._rule.max_replicas)
        if wanted < current:
            limit = min(current, self._limit(now, current, self._rule.scale_down, -1))
            return max(wanted, limit, self._min)
        return wanted

    def _limit(self, now: float, current: int, rules: Rules, direction: int) -> int:
        """How far the policies let it go from where each one's period began."""
        if rules.select == "Disabled":
            return current
        proposals = [self._proposal(now, current, policy, direction) for policy in rules.policies]
        furthest = (rules.select == "Max") == (direction > 0)
        return max(proposals) if furthest else min(proposals)

    def _proposal(self, now: float, current: int, policy: Policy, direction: int) -> int:
        since = now - policy.period_seconds
        began = current - sum(change for at, change in self._changes if at > since)
        if policy.kind == "Pods":
            return began + direction * policy.value
        # In floating point, as the controller does it, rounding errors included.
        proposal = began * (1 + direction * policy.value / 100)
        return ceil(proposal) if direction > 0 else int(proposal)

    def _forget(self, now: float) -> None:
        for past in (self._recommended, self._changes):
            # The last recommendation stays, as the sign that there was one.
            while len(past) > 1 and past[0][0] < now - self._memory:
                past.popleft()
