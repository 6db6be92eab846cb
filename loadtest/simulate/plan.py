"""The input of a simulation: the deployment, service times, start-up times and a load."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loadtest.simulate.arrivals import Arrival, ChunkMix
from loadtest.simulate.autoscaler import Autoscaling
from loadtest.simulate.fleet import Start
from loadtest.simulate.ingresses import IngressLimits
from loadtest.simulate.service_times import ServiceTimes
from videoanalysis.scaling.arithmetic import SYNC_SECONDS

Service = Literal["ingress", "encoder", "decoder"]
SERVICES: tuple[Service, ...] = ("ingress", "encoder", "decoder")

# The default of the encoder.
ENCODER_PERMITS = 2


@dataclass(frozen=True, slots=True)
class Deployed:
    """One service of the chart: with an autoscaling rule, otherwise with a fixed number of `replicas`.

    A draining pod exists for at least `linger_seconds` and at most `grace_seconds`.
    """

    autoscaling: Autoscaling | None
    replicas: int = 1
    linger_seconds: float = 0.0
    grace_seconds: float = 60.0

    @property
    def initial(self) -> int:
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas


@dataclass(frozen=True, slots=True)
class Deployment:
    services: Mapping[Service, Deployed]
    ingress_limits: IngressLimits = field(default_factory=IngressLimits)
    encoder_permits: int = ENCODER_PERMITS


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a load that is reported separately; times in seconds."""

    name: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Level:
    """The number of callers from `begins` on, in seconds."""

    begins: float
    callers: int


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Requests at given times. Each call of `arrive` returns the same arrivals."""

    arrive: Callable[[], Iterator[Arrival]]
    seconds: float
    spans: Sequence[Span] = ()


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """Callers that each send their next request after the answer."""

    levels: Sequence[Level]
    seconds: float
    mix: ChunkMix
    spans: Sequence[Span] = ()


# Assumed, not measured: an image of 8 GB at 130 MB/s, then imports, weights, CUDA context and warm-up.
STARTS: Mapping[Service, Start] = {
    "ingress": Start(pull=10, load=4, discovery=5),
    "encoder": Start(pull=60, load=20, discovery=1),
    "decoder": Start(pull=5, load=2, discovery=1),
}


@dataclass(frozen=True, slots=True)
class Plan:
    deployment: Deployment
    load: OpenLoad | ClosedLoad
    times: ServiceTimes = field(default_factory=ServiceTimes)
    starts: Mapping[Service, Start] = field(default_factory=lambda: STARTS)
    sync_seconds: float = SYNC_SECONDS
    seed: int = 1
