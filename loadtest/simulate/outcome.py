"""The outcome of a simulation: videos, replicas and gauges over time, and figures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.simulate.plan import SERVICES, Service

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Course:
    """Over time: requested, ready and draining replicas, and the gauge that the autoscaler reads."""

    desired: Column
    ready: Column
    draining: Column
    gauge: Column


@dataclass(frozen=True, slots=True)
class Part:
    """A span of a simulation. `ready` are mean replicas."""

    seconds: float
    latencies: Column
    refused: int
    ready: Mapping[Service, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times are seconds from the start. Columns of videos are in the order of their answers."""

    seconds: float
    times: Column  # of the courses
    courses: Mapping[Service, Course]
    arrivals: Column
    admissions: Column
    answers: Column
    refusals: Column
    unanswered: int  # an hour after the end of the load
    interrupted: int  # videos whose ingress ended before them
    chunks: int
    encode_wait_seconds: float  # of a chunk, mean
    node_seconds: Mapping[Service, float]
    worked_seconds: float  # of all accelerators
    events: int
    cpu_seconds: float  # of the simulation itself

    @property
    def latencies(self) -> Column:
        return self.answers - self.arrivals

    @property
    def waits(self) -> Column:
        """The waits for a slot at an ingress."""
        return self.admissions - self.arrivals

    @property
    def gpu_hours(self) -> float:
        return self.node_seconds["encoder"] / 3600

    @property
    def utilization(self) -> float:
        """The share of GPU time that is compute time."""
        return self.worked_seconds / max(self.node_seconds["encoder"], 1e-9)

    @property
    def refused_share(self) -> float:
        unserved = len(self.refusals) + self.unanswered
        return unserved / max(1, unserved + len(self.answers))

    def latency(self, statistic: str) -> float:
        """ "mean", "max" or a percentile such as "p95", in seconds; NaN without an answer."""
        if not len(self.answers):
            return float("nan")
        match statistic:
            case "mean":
                return _mean(self.latencies)
            case "max":
                return float(self.latencies.max())
            case _:
                return percentile(self.latencies, float(statistic.removeprefix("p")))

    def most_ready(self, service: Service) -> int:
        return int(self.courses[service].ready.max())

    def part(self, begins: float, ends: float) -> Part:
        """The requests that arrived in this span, and the replicas during it."""
        arrived = (self.arrivals >= begins) & (self.arrivals < ends)
        refused = (self.refusals >= begins) & (self.refusals < ends)
        during = (self.times >= begins) & (self.times < ends)
        return Part(
            seconds=ends - begins,
            latencies=self.latencies[arrived],
            refused=int(refused.sum()),
            ready={service: _mean(course.ready[during]) for service, course in self.courses.items()},
        )

    def figures(self) -> dict[str, float]:
        """All figures, for JSON."""
        return {
            "videos": len(self.answers),
            "refused": len(self.refusals),
            "refused_share": self.refused_share,
            "unanswered": self.unanswered,
            "interrupted": self.interrupted,
            **{f"{name}_seconds": self.latency(name) for name in ("mean", "p50", "p95", "p99", "max")},
            "wait_p95_seconds": percentile(self.waits, 95),
            "encode_wait_seconds": self.encode_wait_seconds,
            "gpu_hours": self.gpu_hours,
            "gpu_utilization": self.utilization,
            **{f"{service}_replica_hours": self.node_seconds[service] / 3600 for service in SERVICES},
            **{f"{service}_most_ready": self.most_ready(service) for service in SERVICES},
        }


def _mean(values: Column) -> float:
    return float(values.mean()) if len(values) else float("nan")


def percentile(values: Column, percent: float) -> float:
    """Nearest rank, so always a measured value; NaN without any."""
    return float(np.percentile(values, percent, method="inverted_cdf")) if len(values) else float("nan")
