"""One statement of an explanation, and how it writes figures and times."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is for programs. A finding that `is_wrong` needs an operator, the others explain."""

    code: str
    text: str
    remedy: str = ""
    is_wrong: bool = False


def number(value: float) -> str:
    """At most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def sentence(text: str) -> str:
    """With a full stop, which messages of a cluster may lack."""
    return text if text.endswith(".") else f"{text}."


def span(seconds: float) -> str:
    """1 h 2 min 3 s"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def clock(at: datetime) -> str:
    return at.strftime("%H:%M:%S %Z")


def when(at: datetime, now: datetime) -> str:
    return f"{clock(at)} (in {span(max(0.0, (at - now).total_seconds()))})"
