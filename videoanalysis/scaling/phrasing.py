"""How figures and times are put in an explanation."""

from datetime import datetime


def number(value: float) -> str:
    """At most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def stop(sentence: str) -> str:
    """The full stop that a sentence of the cluster may lack."""
    return "" if sentence.endswith(".") else "."


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
