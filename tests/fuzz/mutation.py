"""Changes of examples at random, the same for the same seed."""

import random
from collections.abc import Iterator, Sequence

_NUMBERS = [
    number.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for order in ("little", "big")
    for number in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1))
]


def mutated(examples: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Endlessly."""
    rng = random.Random(seed)
    while True:
        data = bytearray(rng.choice(examples))
        for _ in range(2 ** rng.randrange(5)):
            _change(data, examples, rng)
        yield bytes(data)


def _change(data: bytearray, examples: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + 2 ** rng.randrange(8))
    match rng.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(data):
            data[at] = rng.randrange(256)
        case 2:
            number = rng.choice(_NUMBERS)
            data[at : at + len(number)] = number
        case 3:
            del data[at:end]
        case 4:
            data[at:at] = data[at:end]
        case 5:
            other = rng.choice(examples)
            start = rng.randrange(len(other) + 1)
            data[at:end] = other[start : start + end - at]
        case _:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
