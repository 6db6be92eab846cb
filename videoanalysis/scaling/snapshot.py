"""What a cluster says about a release at one moment, as far as the number of its replicas depends on it.

Names are those of Kubernetes and KEDA in our spelling; times carry their zone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

SERVICES = ("ingress", "encoder", "decoder")


@dataclass(frozen=True, slots=True)
class Condition:
    """`is_true` is None where the cluster says Unknown."""

    is_true: bool | None
    reason: str = ""
    message: str = ""


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


@dataclass(frozen=True, slots=True)
class Rescale:
    """The HPA changed the count to `size`."""

    at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Hpa:
    """`target` is what one replica is to have of the metric, `metric` the whole of it as the HPA saw it last."""

    name: str
    min_replicas: int
    max_replicas: int
    target: float | None
    metric: float | None
    last_scale: datetime | None
    scale_up: Rules
    scale_down: Rules
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    # As far as the cluster remembers, the oldest first.
    rescales: tuple[Rescale, ...] = ()


@dataclass(frozen=True, slots=True)
class Fallback:
    failure_threshold: int
    replicas: int
    behavior: str = "static"


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """`failures` is how often in a row KEDA could not read the metric, `complaint` its last warning.

    `paused_replicas` is the count at which it is held; `is_paused` alone holds whatever count there is.
    `initial_cooldown_seconds` count from `created`, as long as it has not been active.
    """

    name: str
    min_replicas: int
    max_replicas: int
    target: float | None
    activation: float
    trigger: str
    polling_seconds: float
    cooldown_seconds: float
    last_active: datetime | None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    fallback: Fallback | None = None
    failures: int = 0
    is_paused: bool = False
    paused_replicas: int | None = None
    complaint: str = ""
    created: datetime | None = None
    initial_cooldown_seconds: float = 0.0

    def says(self, condition: str) -> bool:
        """Whether the condition is there and true."""
        known = self.conditions.get(condition)
        return known is not None and known.is_true is True


@dataclass(frozen=True, slots=True)
class Pod:
    """`state` says what a pod that is not ready waits for, in the cluster's words.

    `trouble` is the reason of a state that does not pass by itself, such as Unschedulable or ImagePullBackOff.
    `ends_at` is when a pod that is draining is killed at the latest. One that `is_over` is a record of what was, such
    as an eviction, and not counted by its Deployment.
    """

    name: str
    is_ready: bool
    created: datetime
    state: str = ""
    trouble: str = ""
    events: tuple[str, ...] = ()
    ends_at: datetime | None = None
    is_over: bool = False

    @property
    def is_draining(self) -> bool:
        return self.ends_at is not None


@dataclass(frozen=True, slots=True)
class Gauges:
    """What one ingress pod says of the work for each service; `depths` is None if it could not be read."""

    pod: str
    is_draining: bool
    depths: Mapping[str, float] | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One service. `replicas` are asked of the Deployment, `existing` pods there are, `ready` of them are ready.

    `metric_now` is what KEDA answers when it is asked for the metric, None if it was not asked or does not answer.
    """

    service: str
    deployment: str
    replicas: int
    existing: int
    ready: int
    hpa: Hpa | None
    scaled_object: ScaledObject | None
    pods: tuple[Pod, ...] = ()
    metric_now: float | None = None
    # Why there are fewer pods than asked for, if they could not even be made.
    replica_failure: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`sums_before` are the sums of our gauges, read once before KEDA was asked; `gauges` were read after."""

    at: datetime
    namespace: str
    release: str
    workloads: tuple[Workload, ...]
    gauges: tuple[Gauges, ...]
    sums_before: Mapping[str, float] = field(default_factory=dict)
