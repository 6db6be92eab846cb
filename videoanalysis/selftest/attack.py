"""One hostile file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attack:
    """`family` groups files of one idea. A file that must be refused names others, or has no picture of its own."""

    family: str
    name: str
    content: bytes
    must_be_refused: bool = False
