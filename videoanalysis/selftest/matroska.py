"""Matroska files put together by hand, right or wrong."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from videoanalysis.selftest.clips import HEIGHT, WIDTH

ATTACHMENTS, CHAPTERS, CLUSTER, TAGS, VOID = 0x1941A469, 0x1043A770, 0x1F43B675, 0x1254C367, 0xEC
_EBML, _SEGMENT, _INFO, _TRACKS, _TRACK = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
_SIMPLE_BLOCK, _CLUSTER_TIME = 0xA3, 0xE7
UNKNOWN_SIZE = b"\x01\xff\xff\xff\xff\xff\xff\xff"


def element(identifier: int, payload: bytes | int | float, size: bytes | None = None) -> bytes:
    """`size` in place of the true one."""
    if isinstance(payload, int):
        payload = payload.to_bytes(8)
    elif isinstance(payload, float):
        payload = struct.pack(">d", payload)
    return identifier.to_bytes((identifier.bit_length() + 7) // 8) + (size or _size(len(payload))) + payload


def _size(value: int) -> bytes:
    return (value | 1 << 56).to_bytes(8)


@dataclass(frozen=True, slots=True)
class Block:
    picture: bytes
    cluster_time: int = 0
    offset: int = 0  # from the time of the cluster
    flags: int = 0x80  # a key frame, no lacing


def track(
    number: int = 1, kind: int = 1, codec: str = "V_MJPEG", more: bytes = b"", size: tuple[int, int] | None = None
) -> bytes:
    width, height = size or (WIDTH, HEIGHT)
    video = element(0xE0, element(0xB0, width) + element(0xBA, height)) if kind == 1 else b""
    return element(
        _TRACK,
        element(0xD7, number)
        + element(0x73C5, number)
        + element(0x83, kind)
        + element(0x86, codec.encode())
        + video
        + more,
    )


def file(
    blocks: Iterable[Block],
    *,
    scale: int = 1_000_000,
    duration: float | None = None,
    tracks: bytes | None = None,
    before: bytes = b"",
) -> bytes:
    """A cluster for each block; `before` them come further elements of the segment."""
    header = element(_EBML, element(0x4282, b"matroska") + element(0x4287, 4) + element(0x4285, 2))
    info = element(_INFO, element(0x2AD7B1, scale) + (element(0x4489, duration) if duration is not None else b""))
    clusters = b"".join(
        element(
            CLUSTER,
            element(_CLUSTER_TIME, block.cluster_time % 2**64)
            + element(_SIMPLE_BLOCK, b"\x81" + struct.pack(">hB", block.offset, block.flags) + block.picture),
        )
        for block in blocks
    )
    segment = info + element(_TRACKS, track() if tracks is None else tracks) + before + clusters
    return header + element(_SEGMENT, segment, UNKNOWN_SIZE)
