"""Changes of examples by chance, the same for the same seed."""

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
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(examples))
        for _ in range(2 ** chance.randrange(5)):
            _change(data, examples, chance)
        yield bytes(data)


def _change(data: bytearray, examples: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + 2 ** chance.randrange(8))
    match chance.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2:
            number = chance.choice(_NUMBERS)
            data[at : at + len(number)] = number
        case 3:
            del data[at:end]
        case 4:
            data[at:at] = data[at:end]
        case 5:
            other = chance.choice(examples)
            start = chance.randrange(len(other) + 1)
            data[at:end] = other[start : start + end - at]
        case _:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
