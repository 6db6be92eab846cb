"""A way of placing chunks, as numbers and a few choices."""

from dataclasses import dataclass
from enum import Enum, auto
from math import inf


class Choice(Enum):
    """Which encoder is asked first; of those that are equal a random one. One that refused just now comes last."""

    RANDOM = auto()
    IN_TURN = auto()
    FEWEST_OWN = auto()  # where we have the least under way
    REPORTED = auto()  # that with the fewest when it answered last, if that was a moment ago
    SOONEST = auto()  # as FEWEST_OWN, then where ours should end first, then random by speed
    LATEST = auto()  # as SOONEST, but then no slow one, none with work of others, and that which did ours last


@dataclass(frozen=True, slots=True)
class Policy:
    """Times are seconds. The defaults are what the ingress and the encoder do."""

    # The ingress.
    offers: int = 3  # encoders at which a chunk waits at a time
    apart: float = 0.002  # the next is asked if those before have not admitted it by then
    most_offers: int = 16  # beyond `offers` where nothing of ours is
    gap: float = 1 / 32  # between those, of the service time, and no less than `apart`
    choice: Choice = Choice.LATEST
    window: float | None = None  # chunks of one ingress on offer at a time; None finds it, as TCP does
    max_refusals: int = 4  # in one round
    first_pause: float = 0.02
    longest_pause: float = 1.0

    # The encoder.
    max_parked: float = 32
    park_seconds: float = 1.0
    retry_after: float = 0.1
    # The further place is given so long before the chunk that computes should end; None learns it from the uploads.
    lead: float | None = None
    prompt_from: float = 4  # so many parked headers end that delay: by then all encoders are busy


# What others do: the encoder takes whatever comes, and the caller chooses by what it knows.
RANDOM, ROUND_ROBIN, LEAST_OUTSTANDING = (
    Policy(offers=1, most_offers=1, choice=choice, window=inf, max_parked=inf, park_seconds=inf, lead=inf)
    for choice in (Choice.RANDOM, Choice.IN_TURN, Choice.FEWEST_OWN)
)
REFUSE = Policy(
    offers=1,
    most_offers=1,
    choice=Choice.RANDOM,
    window=inf,
    max_refusals=1000,
    max_parked=0,
    retry_after=0.0,
    lead=inf,
)
PARK_AT_TWO = Policy(offers=2, most_offers=2, apart=0.0, choice=Choice.RANDOM, window=inf, max_parked=8, lead=inf)
