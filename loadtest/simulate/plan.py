"""What is rehearsed: the chart's settings, how long things take, and what comes in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loadtest.simulate.arrivals import Arrival, ChunkMix, Level
from loadtest.simulate.autoscaling import Autoscaling
from loadtest.simulate.fleet import Start
from loadtest.simulate.hpa import SYNC_SECONDS
from loadtest.simulate.service_times import ServiceTimes
from loadtest.simulate.videos import IngressLimits

Service = Literal["ingress", "encoder", "decoder"]
SERVICES: tuple[Service, ...] = ("ingress", "encoder", "decoder")

# As the encoder has it unless it is set otherwise.
ENCODER_PERMITS = 2


@dataclass(frozen=True, slots=True)
class Deployed:
    """One service as the chart deploys it: by a rule, or, without one, with `replicas`."""

    autoscaling: Autoscaling | None
    replicas: int = 1
    linger_seconds: float = 0.0  # a draining pod stays at least so long, for others to learn of it
    grace_seconds: float = 60.0  # and at most so long

    @property
    def initial(self) -> int:
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas


@dataclass(frozen=True, slots=True)
class Deployment:
    """The whole system as the chart deploys it."""

    services: Mapping[Service, Deployed]
    ingress_limits: IngressLimits = field(default_factory=IngressLimits)
    encoder_permits: int = ENCODER_PERMITS


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a load that is looked at by itself; from and to, in seconds."""

    name: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Callers who come whatever the system does. `arrive` gives the same arrivals whenever it is called."""

    arrive: Callable[[], Iterator[Arrival]]
    seconds: float
    spans: Sequence[Span] = ()


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """Callers who wait for their answer before they ask again."""

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
