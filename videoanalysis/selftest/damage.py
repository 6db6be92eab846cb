"""Clips cut off, and with bits turned over, in every container; deterministic from a seed."""

import random
from collections.abc import Iterator

from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.clips import CONTAINERS, clip

_CUTS = 6
_FLIPPED = 6
_HEADER_BYTES = 600


def attacks(seed: int) -> Iterator[Attack]:
    for suffix in CONTAINERS:
        content = clip(suffix)
        rng = random.Random(f"{seed} {suffix}")
        for _ in range(_CUTS):
            length = rng.randrange(1, len(content))
            yield Attack(f"cut off: {suffix}", f"{length}.{suffix}", content[:length])
        for number in range(_FLIPPED):
            yield Attack(f"bits turned over: {suffix}", f"{number}.{suffix}", flipped(content, rng))


def flipped(content: bytes, rng: random.Random) -> bytes:
    """One to 64 bits turned over, in every other file only among the headers."""
    changed = bytearray(content)
    within = min(len(content), _HEADER_BYTES) if rng.random() < 0.5 else len(content)
    for _ in range(2 ** rng.randrange(7)):
        changed[rng.randrange(within)] ^= 1 << rng.randrange(8)
    return bytes(changed)
