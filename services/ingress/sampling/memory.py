"""The memory that sampling a video takes, estimated from its picture format before the first picture is decoded.

`benchmarks/memory.py` measures what the constants here allow for: a decoder holds as many pictures as its codec may
refer to and as wait for presentation; sampling itself holds two more.
"""

from dataclasses import dataclass

# Demuxer index, codec context, scaler, interpreter: whatever the size of the pictures.
_FIXED_BYTES = 96 << 20

# Pictures in memory at once, with a margin of about a quarter over the most that was measured for any stream.
_PICTURES = {"h264": 20, "hevc": 20, "av1": 14, "libdav1d": 14, "vp9": 12}
_PICTURES_OF_OTHER_CODECS = 8
_PICTURES_OF_A_FURTHER_THREAD = 3
_STACK_BYTES, _HEAP_BYTES = 8 << 20, 64 << 20  # address space of each further thread, and of the heap they share


@dataclass(frozen=True, slots=True)
class PictureFormat:
    codec: str
    width: int
    height: int
    bytes_per_pixel: float


def bytes_needed(pictures: PictureFormat, *, threads: int, packet_bytes: int, chunk_bytes: int) -> int:
    """For a video of such `pictures`, of which `packet_bytes` are read ahead, sampled in chunks of `chunk_bytes`.

    Every thread beyond the first has a few pictures of its own.
    """
    held = _PICTURES.get(pictures.codec, _PICTURES_OF_OTHER_CODECS)
    held += _PICTURES_OF_A_FURTHER_THREAD * (threads - 1)
    thread_bytes = _HEAP_BYTES + _STACK_BYTES * (threads - 1) if threads > 1 else 0
    picture_bytes = int(pictures.width * pictures.height * pictures.bytes_per_pixel)
    # A chunk's frames are collected, copied to the shared buffer, and those of the next chunk collected meanwhile.
    return _FIXED_BYTES + thread_bytes + held * picture_bytes + packet_bytes + 3 * chunk_bytes
