"""How long the stages take, each by itself and with nobody in its way."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from loadtest.bad_option import BadOption

Draw = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Means in seconds. The defaults: the 8.3 s sample on an L4 at 60 % of its peak, a guess until a sweep is read."""

    download_seconds: float = 0.077  # of a video, until its first frame can be decoded
    sample_seconds: float = 0.09  # of a chunk, in the ingress
    upload_seconds: float = 0.006  # of a chunk, into the buffer of a permit
    encode_seconds: float = 0.150  # of a chunk, on the accelerator
    decode_seconds: float = 0.002  # of a chunk
    answer_seconds: float = 0.003  # of a video, after its last chunk
    # Standard deviation over mean, of each draw: 0 is always the same, 1 exponential.
    variation: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.by_name().items():
            if not 0 <= value < 1e6:
                raise BadOption(f"{name}: {value}, must be a number of seconds, 0 or more")

    def by_name(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def scaled(self, factor: float) -> Self:
        """All of it `factor` times as slow."""
        times = {name: value * factor for name, value in self.by_name().items() if name != "variation"}
        return replace(self, **times)

    def draw(self, name: str, chance: random.Random) -> Draw:
        """Times of the stage `name`, as they come."""
        mean: float = getattr(self, name)
        if self.variation == 0 or mean == 0:
            return lambda: mean
        if self.variation == 1:
            return lambda: chance.expovariate(1 / mean)
        shape = 1 / self.variation**2
        return lambda: chance.gammavariate(shape, mean / shape)

    @classmethod
    def read(cls, path: Path) -> Self:
        """From {"sample_seconds": …, …}, or from a sweep's summary, which holds such a one as "service_times".

        What is not there keeps its default. Raises BadOption.
        """
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadOption(f"{path}: cannot be read as JSON ({error})") from error
        if isinstance(found, Mapping) and isinstance(found.get("service_times"), Mapping):
            found = found["service_times"]
        known = {field.name for field in fields(cls)}
        if not isinstance(found, Mapping) or not known & found.keys():
            raise BadOption(f"{path}: no service times; it must hold some of {', '.join(sorted(known))}")
        return cls(**{name: _number(path, name, found[name]) for name in known & found.keys()})


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadOption(f"{path}: {name}: {value!r} is not a number")
    return float(value)
