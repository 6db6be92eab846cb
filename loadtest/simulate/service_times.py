"""The service time of each stage, without queueing."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from loadtest.errors import InvalidOption

Draw = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Means in seconds. The defaults assume the 8.3 s sample and an L4 at 60 % of its peak."""

    download_seconds: float = 0.077  # of a video, until its first frame can be decoded
    sample_seconds: float = 0.09  # of a chunk, in the ingress
    upload_seconds: float = 0.006  # of a chunk, into the buffer of a permit
    encode_seconds: float = 0.150  # of a chunk, on the accelerator
    decode_seconds: float = 0.002  # of a chunk
    answer_seconds: float = 0.003  # of a video, after its last chunk
    # The ratio of standard deviation to mean of each draw: 0 is constant, 1 exponential.
    variation: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.by_name().items():
            if not 0 <= value < 1e6:
                raise InvalidOption(f"{name}: {value}, must be a number of seconds, 0 or more")

    def by_name(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def draw(self, name: str, rng: random.Random) -> Draw:
        """Random service times of the stage `name`."""
        mean: float = getattr(self, name)
        if self.variation == 0 or mean == 0:
            return lambda: mean
        shape = 1 / self.variation**2
        return lambda: rng.gammavariate(shape, mean / shape)

    @classmethod
    def read(cls, path: Path) -> Self:
        """From {"sample_seconds": …, …}, or from the "service_times" of a sweep's summary.json.

        A missing time keeps its default. Raises InvalidOption.
        """
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidOption(f"{path}: cannot be read as JSON ({error})") from error
        if isinstance(found, Mapping) and isinstance(found.get("service_times"), Mapping):
            found = found["service_times"]
        known = {field.name for field in fields(cls)}
        if not isinstance(found, Mapping) or not known & found.keys():
            raise InvalidOption(f"{path}: no service times; it must hold some of {', '.join(sorted(known))}")
        return cls(**{name: _number(path, name, found[name]) for name in known & found.keys()})


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(f"{path}: {name}: {value!r} is not a number")
    return float(value)
