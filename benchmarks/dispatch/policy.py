"""A way of placing chunks, as numbers and a few choices."""

from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True)
class Policy:
    """Times are seconds. One chunk at one encoder with parking without end is what plain load balancing does."""

    name: str

    # What the ingress does.
    copies: int = 2  # encoders at which a chunk waits at a time
    choose: Literal["random", "in turn", "fewest own", "reported", "two by report"] = "fewest own"
    window: float | Literal["adaptive"] = inf  # chunks of one ingress on offer at a time
    window_per_encoder: float = 0.0  # added to the window, for each encoder there is
    first_window: float = 4.0
    second_after: float = 0.0  # the next encoder is asked if the first has not admitted by then
    max_refusals: int = 4  # in one round
    first_pause: float = 0.02
    longest_pause: float = 1.0
    rest: Literal["on offer", "in line"] = "on offer"  # where a chunk is between two rounds
    steal: bool = False  # offer the oldest chunk also to an encoder whose answer says that nobody waits there

    # What the encoder does.
    slots: int = 2
    max_parked: float = 8
    park_seconds: float = 1.0
    retry_after: float = 0.1
    order: Literal["arrival", "age"] = "arrival"
    # The next chunk is admitted so long before the one on the GPU should be done: learnt from how long uploads take.
    lead: float | Literal["learnt"] = inf
    deviations: float = 4
    prompt_from: float = inf  # so many headers parked, and there is no such delay: all encoders are busy
