"""A run in its directory: requests.csv, samples.csv and summary.json."""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from loadtest.errors import InvalidRun
from loadtest.sweep.record import (
    SUMMARY,
    Request,
    Sample,
    read_requests,
    read_samples,
    write_requests,
    write_samples,
)
from loadtest.sweep.slo import Objective, Verdict, judge
from loadtest.sweep.summary import service_times, summarise
from loadtest.sweep.sweep import Measured

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Run:
    directory: Path
    summary: dict[str, Any]
    requests: list[Request]
    samples: list[Sample]

    @property
    def levels(self) -> list[dict[str, Any]]:
        return list(self.summary["levels"])

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Raises InvalidRun."""
        path = directory / SUMMARY
        try:
            summary = json.loads(path.read_bytes())
        except OSError as error:
            raise InvalidRun(f"{path}: {error.strerror}; name the directory of a sweep") from error
        except ValueError as error:
            raise InvalidRun(f"{path}: not JSON ({error})") from error
        if not isinstance(summary, dict) or summary.get("format") != _FORMAT:
            raise InvalidRun(f"{path}: not the summary of a sweep, or of another version of it")
        return cls(directory, summary, read_requests(directory), read_samples(directory))


def write(
    directory: Path, conditions: Mapping[str, object], objectives: Sequence[Objective], measured: Measured, ending: str
) -> Run:
    """Write a run, complete or not: `ending` is "complete" or the reason of its early end.

    `conditions` are those under which it was measured, ready for JSON.
    """
    percentiles = [one.statistic for one in objectives if one.statistic.startswith("p")]
    levels = [
        summarise(
            sent, [one for one in measured.requests if one.level == sent.level.name], measured.samples, percentiles
        )
        for sent in measured.sent
    ]
    summary = {
        "format": _FORMAT,
        "ending": ending,
        **conditions,
        "machine": _machine(),
        "notes": measured.notes,
        "levels": levels,
        "objectives": [asdict(verdict) for verdict in _verdicts(objectives, levels)],
        "service_times": service_times(measured.requests),
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_requests(directory, measured.requests)
    write_samples(directory, measured.samples)
    # Last: a directory with a summary is complete.
    (directory / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return Run(directory, summary, list(measured.requests), list(measured.samples))


def _verdicts(objectives: Iterable[Objective], levels: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    return [
        judge(
            objective,
            level["level"],
            latency=level["latency_ms"],
            errors=level["failed"],
            sent=level["requests"],
            rate=level["rate"],
        )
        for level in levels
        for objective in objectives
    ]


def _machine() -> dict[str, object]:
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "videoanalysis": version("videoanalysis"),
    }
