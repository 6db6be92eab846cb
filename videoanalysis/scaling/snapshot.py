"""The part of the state of a release in a cluster, at one moment, that determines its replica counts.

Names are those of Kubernetes and KEDA in snake case; times carry their zone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from videoanalysis.scaling.arithmetic import Fallback, Rules

SERVICES = ("ingress", "encoder", "decoder")


@dataclass(frozen=True, slots=True)
class Condition:
    """`is_true` is None where the cluster reports Unknown."""

    is_true: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Rescale:
    """The HPA changed the count to `size`."""

    at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Hpa:
    """`target` is the metric per replica, `metric` the sum that the HPA read last."""

    name: str
    min_replicas: int
    max_replicas: int
    target: float | None
    metric: float | None
    last_scale: datetime | None
    scale_up: Rules
    scale_down: Rules
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    # Those whose events the cluster still has, the oldest first.
    rescales: tuple[Rescale, ...] = ()


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """`failures` counts KEDA's failed reads of the metric in a row, `last_warning` is its latest warning event.

    `paused_replicas` is the count of a pause; `is_paused` alone keeps the present count.
    `initial_cooldown_seconds` count from `created` until the object is active for the first time.
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
    last_warning: str = ""
    created: datetime | None = None
    initial_cooldown_seconds: float = 0.0

    def has(self, condition: str) -> bool:
        """Whether the condition is reported and true."""
        known = self.conditions.get(condition)
        return known is not None and known.is_true is True


@dataclass(frozen=True, slots=True)
class Pod:
    """`state` is what a pod that is not ready waits for, in the cluster's words.

    `trouble` is the reason of a state that does not end by itself, such as Unschedulable or ImagePullBackOff.
    `ends_at` is when a draining pod is killed at the latest. One that `is_over`, such as an evicted pod, remains as a
    record and is not counted by its Deployment.
    """

    name: str
    is_ready: bool
    created: datetime
    state: str = ""
    trouble: str = ""
    events: tuple[str, ...] = ()
    ends_at: datetime | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Gauges:
    """The queue depths that one ingress pod publishes, by service; `depths` is None if they could not be read."""

    pod: str
    is_draining: bool
    depths: Mapping[str, float] | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One service: `replicas` are requested in the Deployment, `existing` pods exist, `ready` of them are ready.

    `metric_now` is the metric as KEDA serves it, None if it could not be read. `replica_failure` is why pods could not
    be created.
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
    replica_failure: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`gauges` were read after KEDA's metric, `sums_before` are the sums of an earlier read."""

    at: datetime
    namespace: str
    release: str
    workloads: tuple[Workload, ...]
    gauges: tuple[Gauges, ...]
    sums_before: Mapping[str, float] = field(default_factory=dict)

    def demand(self, service: str) -> float | None:
        """The sum of the gauges that could be read."""
        known = [gauges.depths[service] for gauges in self.gauges if gauges.depths is not None]
        return sum(known) if known else None
