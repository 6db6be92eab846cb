"""All hostile files, the same for the same seed: about 1 MB."""

from collections.abc import Iterator

from videoanalysis.selftest import damage, declarations, references, streams, timestamps
from videoanalysis.selftest.attack import Attack

SEED = 1


def corpus(file: str, address: str, seed: int = SEED) -> Iterator[Attack]:
    """`file` and `address` are what the scripts name: a path on the service's disk, and host:port of a listener."""
    yield from references.attacks(file, address)
    yield from declarations.attacks()
    yield from timestamps.attacks()
    yield from streams.attacks()
    yield from damage.attacks(seed)
