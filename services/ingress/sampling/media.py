"""What the pool samples: a file whose bytes are there, or arrive while it is read."""

import os
from dataclasses import dataclass
from typing import Any, Protocol, Self


class Media(Protocol):
    """A video file; `fd` is a descriptor for reading it, sparse where bytes are still to come."""

    @property
    def fd(self) -> int: ...

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""

    @property
    def bytes_fetched(self) -> int:
        """So far, from the video's source."""

    async def fetch(self, start: int, end: int) -> int:
        """Wait for the bytes from `start` to at most `end`; returns up to where, from `start` on, they are there.

        Raises the ServiceErrors of the source.
        """


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A file of which all bytes are there."""

    fd: int
    size: int
    complete: bool = True

    @property
    def bytes_fetched(self) -> int:
        return self.size

    @classmethod
    def of(cls, fd: int, **more: Any) -> Self:
        return cls(fd, os.fstat(fd).st_size, **more)

    async def fetch(self, start: int, end: int) -> int:
        return self.size
