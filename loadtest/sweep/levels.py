"""What is asked of the service: so many callers at a time, or so many arrivals a second."""

from dataclasses import dataclass
from typing import Literal

from loadtest.bad_option import BadOption

Arrivals = Literal["poisson", "fixed"]
_MOST_CALLERS = 10_000
_HIGHEST_RATE = 10_000


@dataclass(frozen=True, slots=True)
class Level:
    """`value` is callers, each with its next request as soon as it has its answer; or arrivals a second."""

    kind: Literal["closed", "open"]
    value: float
    arrivals: Arrivals = "poisson"

    @property
    def name(self) -> str:
        return f"{self.value:g} at a time" if self.kind == "closed" else f"{self.value:g} a second"


def parse_levels(concurrency: str, rate: str, arrivals: Arrivals) -> list[Level]:
    """From "2,4,8" and "10,20.5", one of which may be empty. Raises BadOption."""
    closed = [Level("closed", value) for value in _numbers("--concurrency", concurrency, _MOST_CALLERS)]
    if any(level.value != int(level.value) for level in closed):
        raise BadOption(f"--concurrency: {concurrency}, must be whole numbers such as 2,4,8")
    levels = closed + [Level("open", value, arrivals) for value in _numbers("--rate", rate, _HIGHEST_RATE)]
    if not levels:
        raise BadOption("name at least one level, with --concurrency 2,4,8 or --rate 5,10")
    if len({level.name for level in levels}) < len(levels):
        raise BadOption("--concurrency and --rate: a level is named twice")
    return levels


def _numbers(option: str, text: str, most: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadOption(f"{option}: {text}, must be numbers with commas between them, such as 2,4,8") from None
    if not all(0 < number <= most for number in numbers):
        raise BadOption(f"{option}: {text}, must be above 0 and at most {most}")
    return numbers
