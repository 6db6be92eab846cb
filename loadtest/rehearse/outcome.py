"""What came of a rehearsal."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.rehearse.plan import SERVICES, Service

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Course:
    """Over time: replicas asked for, ready ones, draining ones, and the gauge that the autoscaler reads."""

    wanted: Column
    ready: Column
    draining: Column
    gauge: Column


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times in seconds since the beginning; what is per video, in the order of the answers."""

    seconds: float
    times: Column  # of the courses
    courses: Mapping[Service, Course]
    arrivals: Column
    admissions: Column
    answers: Column
    refusals: Column
    unanswered: int  # an hour after the end
    interrupted: int  # videos whose ingress was gone before they were
    chunks: int
    encode_wait_seconds: float  # of a chunk, mean
    node_seconds: Mapping[Service, float]
    worked_seconds: float  # of all accelerators
    events: int
    wall_seconds: float

    @property
    def latencies(self) -> Column:
        return self.answers - self.arrivals

    @property
    def waits(self) -> Column:
        """For a place at an ingress."""
        return self.admissions - self.arrivals

    @property
    def gpu_hours(self) -> float:
        return self.node_seconds["encoder"] / 3600

    @property
    def utilization(self) -> float:
        """The share of the accelerators' time in which they computed."""
        return self.worked_seconds / max(self.node_seconds["encoder"], 1e-9)

    @property
    def refused_share(self) -> float:
        return len(self.refusals) / max(1, len(self.refusals) + len(self.answers) + self.unanswered)

    def most_ready(self, service: Service) -> int:
        return int(self.courses[service].ready.max())

    def within(self, begins: float, ends: float) -> "Column":
        """Latencies of the videos that arrived in this span."""
        return self.latencies[(self.arrivals >= begins) & (self.arrivals < ends)]

    def figures(self) -> dict[str, float]:
        """All in numbers, for a summary and for goals."""
        return {
            "videos": len(self.answers),
            "refused": len(self.refusals),
            "refused_share": self.refused_share,
            "unanswered": self.unanswered,
            "interrupted": self.interrupted,
            "mean_seconds": float(self.latencies.mean()) if len(self.answers) else float("nan"),
            **{f"p{percent}_seconds": percentile(self.latencies, percent) for percent in (50, 95, 99)},
            "wait_p95_seconds": percentile(self.waits, 95),
            "encode_wait_seconds": self.encode_wait_seconds,
            "gpu_hours": self.gpu_hours,
            "gpu_utilization": self.utilization,
            **{f"{service}_replica_hours": self.node_seconds[service] / 3600 for service in SERVICES},
            **{f"{service}_most_ready": self.most_ready(service) for service in SERVICES},
        }


def percentile(values: Column, percent: float) -> float:
    """Nearest rank, so always a value that occurred; not a number if none did."""
    return float(np.percentile(values, percent, method="inverted_cdf")) if len(values) else float("nan")
