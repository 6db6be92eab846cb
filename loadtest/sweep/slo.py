"""Service level objectives (SLO), and whether a level meets them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loadtest.errors import InvalidOption

_FORM = re.compile(r"(?P<metric>[a-z]+)(?P<percentile>\d+(\.\d+)?)?=(?P<limit>\d+(\.\d+)?)(?P<unit>ms|s|%|/s)?")
# The exit code of a command whose objectives are missed.
EXIT_CODE_MISSED = 3

_HELP = "such as p95=1200ms, mean=900ms, max=5s, errors=0, errors=0.1% or rate=60/s"

Metric = Literal["latency", "errors", "error_share", "rate"]


@dataclass(frozen=True, slots=True)
class Objective:
    """`limit` is in ms, requests, a share, or answers a second; a minimum for the last, otherwise a maximum."""

    text: str
    metric: Metric
    limit: float
    # For a latency: mean, max or a percentile such as p95.
    statistic: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    objective: str
    level: str
    # None if nothing was measured, which meets no objective.
    value: float | None
    is_met: bool


def parse_objective(text: str) -> Objective:
    """Raises InvalidOption."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise InvalidOption(f"--slo: {text}, must be {_HELP}")
    metric, percentile, unit = match["metric"], match["percentile"], match["unit"]
    limit = float(match["limit"])
    if metric == "p" and percentile and 0 < float(percentile) < 100 and unit in ("ms", "s"):
        return Objective(text, "latency", _milliseconds(limit, unit), f"p{percentile}")
    if metric in ("mean", "max") and not percentile and unit in ("ms", "s"):
        return Objective(text, "latency", _milliseconds(limit, unit), metric)
    if metric == "errors" and not percentile and unit in (None, "%"):
        return Objective(text, "error_share", limit / 100) if unit else Objective(text, "errors", limit)
    if metric == "rate" and not percentile and unit in (None, "/s"):
        return Objective(text, "rate", limit)
    raise InvalidOption(f"--slo: {text}, must be {_HELP}")


def judge(
    objective: Objective, level: str, *, latency: Mapping[str, float], errors: int, sent: int, rate: float
) -> Verdict:
    """`latency` holds mean, max and the percentiles of the objectives in ms; it is empty without an answer."""
    value: float | None
    match objective.metric:
        case "latency":
            value = latency.get(objective.statistic)
        case "errors":
            value = float(errors)
        case "error_share":
            value = errors / sent if sent else None
        case "rate":
            value = rate
            return Verdict(objective.text, level, value, value >= objective.limit)
    return Verdict(objective.text, level, value, value is not None and value <= objective.limit)


def figure(value: float | None) -> str:
    """Rounded for display."""
    if value is None:
        return "nothing measured,"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _milliseconds(limit: float, unit: str) -> float:
    return limit * 1000 if unit == "s" else limit
