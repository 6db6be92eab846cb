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
        chance = random.Random(f"{seed} {suffix}")
        for _ in range(_CUTS):
            length = chance.randrange(1, len(content))
            yield Attack(f"cut off: {suffix}", f"{length}.{suffix}", content[:length])
        for number in range(_FLIPPED):
            yield Attack(f"bits turned over: {suffix}", f"{number}.{suffix}", flipped(content, chance))


def flipped(content: bytes, chance: random.Random) -> bytes:
    """One to 64 bits turned over, in every other file only among the headers."""
    changed = bytearray(content)
    within = min(len(content), _HEADER_BYTES) if chance.random() < 0.5 else len(content)
    for _ in range(2 ** chance.randrange(7)):
        changed[chance.randrange(within)] ^= 1 << chance.randrange(8)
    return bytes(changed)
