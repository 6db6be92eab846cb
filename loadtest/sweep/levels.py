"""Levels of load: a number of concurrent callers, or a rate of arrivals."""

from dataclasses import dataclass
from typing import Literal

from loadtest.errors import InvalidOption

Arrivals = Literal["poisson", "fixed"]
_MAX_CALLERS = 10_000
_MAX_RATE = 10_000


@dataclass(frozen=True, slots=True)
class Level:
    """Closed: `value` callers, each sends its next request after its answer. Open: `value` arrivals a second."""

    kind: Literal["closed", "open"]
    value: float
    arrivals: Arrivals = "poisson"

    @property
    def name(self) -> str:
        return f"{self.value:g} at a time" if self.kind == "closed" else f"{self.value:g} a second"


def parse_levels(concurrency: str, rate: str, arrivals: Arrivals) -> list[Level]:
    """From "2,4,8" and "10,20.5", one of which may be empty. Raises InvalidOption."""
    closed = [Level("closed", value) for value in _numbers("--concurrency", concurrency, _MAX_CALLERS)]
    if any(level.value != int(level.value) for level in closed):
        raise InvalidOption(f"--concurrency: {concurrency}, must be whole numbers such as 2,4,8")
    levels = closed + [Level("open", value, arrivals) for value in _numbers("--rate", rate, _MAX_RATE)]
    if not levels:
        raise InvalidOption("name at least one level, with --concurrency 2,4,8 or --rate 5,10")
    if len({level.name for level in levels}) < len(levels):
        raise InvalidOption("--concurrency and --rate: a level is named twice")
    return levels


def _numbers(option: str, text: str, maximum: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InvalidOption(f"{option}: {text}, must be numbers with commas between them, such as 2,4,8") from None
    if not all(0 < number <= maximum for number in numbers):
        raise InvalidOption(f"{option}: {text}, must be above 0 and at most {maximum}")
    return numbers
