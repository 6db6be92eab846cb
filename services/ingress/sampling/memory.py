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
_DECODERS_BYTES = 128 << 20  # of the pictures of several decoders together
FRAMES_AHEAD_BYTES = 12 << 20  # sampled frames that wait for those of earlier groups of pictures
_STACK_BYTES, _HEAP_BYTES = 8 << 20, 64 << 20  # address space of each further thread, and of the heap they share


@dataclass(frozen=True, slots=True)
class PictureFormat:
    codec: str
    width: int
    height: int
    bytes_per_pixel: float


def decoders(pictures: PictureFormat, threads: int) -> int:
    """How many decoders, each with its share of `threads`, may work on a video at once."""
    return max(1, min(threads, _DECODERS_BYTES // max(1, _held_by_one(pictures) * _picture_bytes(pictures))))


def bytes_needed(pictures: PictureFormat, *, threads: int, packet_bytes: int, chunk_bytes: int) -> int:
    """For a video of such `pictures`, of which `packet_bytes` are read ahead, sampled in chunks of `chunk_bytes`.

    Every thread of a decoder beyond the first has a few pictures of its own.
    """
    count = decoders(pictures, threads)
    held = count * _held_by_one(pictures) + _PICTURES_OF_A_FURTHER_THREAD * (threads - count)
    thread_bytes = _HEAP_BYTES + _STACK_BYTES * threads if threads > 1 else 0
    ahead = FRAMES_AHEAD_BYTES if count > 1 else 0
    # A chunk's frames are collected, copied to the shared buffer, and those of the next chunk collected meanwhile.
    frames = 3 * chunk_bytes + ahead
    return _FIXED_BYTES + thread_bytes + held * _picture_bytes(pictures) + packet_bytes + frames


def _held_by_one(pictures: PictureFormat) -> int:
    return _PICTURES.get(pictures.codec, _PICTURES_OF_OTHER_CODECS)


def _picture_bytes(pictures: PictureFormat) -> int:
    return int(pictures.width * pictures.height * pictures.bytes_per_pixel)
