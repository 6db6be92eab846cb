"""What a ScaledObject says, under KEDA's names in our spelling, with KEDA's and Kubernetes' own defaults."""

from dataclasses import dataclass, field
from typing import Literal


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


SCALE_UP = Rules(0, (Policy("Percent", 100, 15), Policy("Pods", 4, 15)))
SCALE_DOWN = Rules(300, (Policy("Percent", 100, 15),))


@dataclass(frozen=True, slots=True)
class Fallback:
    """What the metric is taken for once its source has failed more than `failure_threshold` times in a row."""

    failure_threshold: int
    replicas: int
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = "static"

    def of(self, current: int) -> int:
        match self.behavior:
            case "static":
                return self.replicas
            case "currentReplicas":
                return current
            case "currentReplicasIfHigher":
                return max(current, self.replicas)
            case "currentReplicasIfLower":
                return min(current, self.replicas)


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """One service's rule: ceil(sum of the gauge / `target`) replicas, in the bounds of the rest."""

    min_replicas: int
    max_replicas: int
    target: float
    polling_seconds: float = 30
    cooldown_seconds: float = 300
    initial_cooldown_seconds: float = 0
    activation: float = 0  # from zero the gauge must be above it
    fallback: Fallback | None = None
    scale_up: Rules = field(default=SCALE_UP)
    scale_down: Rules = field(default=SCALE_DOWN)

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(
                f"replicas: {self.min_replicas} to {self.max_replicas} is no range; 0 <= min <= max, max >= 1"
            )
        if self.target <= 0:
            raise ValueError(f"target: {self.target:g}, must be above 0")
        if self.polling_seconds <= 0:
            raise ValueError(f"pollingInterval: {self.polling_seconds:g}, must be above 0")
