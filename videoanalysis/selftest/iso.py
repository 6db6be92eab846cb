"""Boxes of the ISO base media file format (mp4, mov): taken apart and put together again, right or wrong."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

_PARENTS = frozenset({b"moov", b"trak", b"edts", b"mdia", b"minf", b"dinf", b"stbl", b"mvex"})


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + kind + payload


@dataclass(slots=True)
class Box:
    kind: bytes
    payload: bytes = b""
    inside: list["Box"] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        return box(self.kind, self.payload + b"".join(part.to_bytes() for part in self.inside))

    def patch(self, offset: int, value: bytes) -> None:
        self.payload = self.payload[:offset] + value + self.payload[offset + len(value) :]


@dataclass(slots=True)
class Movie:
    boxes: list[Box]

    @classmethod
    def parse(cls, content: bytes) -> Self:
        return cls(list(_boxes(content)))

    def first(self, kind: bytes) -> Box:
        return next(found for found in self._all(self.boxes) if found.kind == kind)

    def to_bytes(self) -> bytes:
        return b"".join(part.to_bytes() for part in self.boxes)

    def _all(self, boxes: list[Box]) -> Iterator[Box]:
        for part in boxes:
            yield part
            yield from self._all(part.inside)


def _boxes(content: bytes) -> Iterator[Box]:
    position = 0
    while position < len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        payload = content[position + 8 : position + size]
        yield Box(kind, inside=list(_boxes(payload))) if kind in _PARENTS else Box(kind, payload)
        position += size


def headers_first(content: bytes) -> bytes:
    """The movie with its moov box before the pictures."""
    movie = Movie.parse(content)
    moov = movie.first(b"moov")
    offsets = movie.first(b"stco")
    shift = len(moov.to_bytes())
    places = struct.unpack(f">{len(offsets.payload) // 4 - 2}I", offsets.payload[8:])
    offsets.patch(8, struct.pack(f">{len(places)}I", *(place + shift for place in places)))
    movie.boxes.remove(moov)
    movie.boxes.insert(1, moov)
    return movie.to_bytes()
