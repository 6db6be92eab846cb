"""What the sampler must return, found the slow and obvious way: every frame decoded, then looked up.

Shares no code with the service.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData
from numpy.typing import NDArray

SHORTEST = Fraction(1, 2)


@dataclass(frozen=True)
class ExpectedChunk:
    start: Fraction
    duration: Fraction
    frame_times: tuple[Fraction, ...]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Expected:
    chunks: list[ExpectedChunk]
    duration: Fraction
    refused: int


def pieces(
    duration: Fraction, chunk_duration: Fraction, start: Fraction = Fraction(0)
) -> list[tuple[Fraction, Fraction]]:
    """(start, duration) of every chunk from `start` on."""
    starts = [start]
    while starts[-1] + chunk_duration < duration:
        starts.append(starts[-1] + chunk_duration)
    if len(starts) > 1 and duration - starts[-1] < SHORTEST:
        starts.pop()
    ends = [*starts[1:], duration]
    return [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def best_video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    stream = container.streams.best("video")
    assert isinstance(stream, av.video.stream.VideoStream)
    stream.codec_context.thread_count = 1
    return stream


@dataclass(frozen=True)
class Shown:
    pts: int
    duration: int
    pixels: NDArray[np.uint8]


def decoded(path: Path, image_size: int) -> tuple[list[Shown], int, Fraction]:
    """Every frame that is ever on display, in order; packets refused; time base.

    The times are those of `ffprobe -show_frames`, and where they step back the video goes on.
    """
    return _decoded(path, path.stat().st_mtime_ns, image_size)


@lru_cache(maxsize=4)
def _decoded(path: Path, modified: int, image_size: int) -> tuple[list[Shown], int, Fraction]:
    """Decoded once for the tests that sample one file in several ways."""
    frames: list[Shown] = []
    refused = offset = 0
    with av.open(str(path), options={"fflags": "-genpts"}) as container:
        stream = best_video_stream(container)
        assert stream.time_base is not None
        packets = [packet for packet in container.demux(stream) if packet.size > 0]
        for packet in [*packets, None]:  # None: nothing more to come
            try:
                arrived = stream.codec_context.decode(packet)
            except av.FFmpegError:
                refused += 1
                continue
            for frame in arrived:
                end = frames[-1].pts + frames[-1].duration if frames else 0
                time = next((time + offset for time in (frame.pts, frame.dts) if time is not None), end)
                if frames and time < frames[-1].pts:
                    offset += end - time
                    time = end
                if frames and time == frames[-1].pts:
                    frames.pop()
                frames.append(Shown(time, frame.duration, resized(frame, image_size)))
        return frames, refused, Fraction(stream.time_base)


def resized(frame: av.VideoFrame, size: int) -> NDArray[np.uint8]:
    matrix = None
    if frame.colorspace == 2 and not frame.format.is_rgb:  # untagged
        matrix = "ITU709" if frame.height >= 720 else "ITU601"
    square = frame.reformat(
        width=size,
        height=size,
        format="rgb24",
        interpolation="BICUBIC",
        src_colorspace=matrix,
        dst_color_range="JPEG",
        threads=1,
    )
    return turned(square.to_ndarray().astype(np.uint8, copy=False), frame)


def turned(pixels: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """As the ffmpeg program turns pictures by itself, case by case."""
    found = [data for data in cast(Iterable[SideData], frame.side_data) if data.type.name == "DISPLAYMATRIX"]
    if not found:
        return pixels
    matrix = np.frombuffer(bytes(found[0]), np.int32)
    match -frame.rotation % 360:
        case 0:
            return pixels[::-1] if matrix[4] < 0 else pixels
        case 90:
            return pixels.transpose(1, 0, 2) if matrix[3] > 0 else np.rot90(pixels, -1)
        case 270:
            return np.rot90(pixels.transpose(1, 0, 2), 2) if matrix[3] < 0 else np.rot90(pixels)
        case 180:
            pixels = pixels[:, ::-1] if matrix[0] < 0 else pixels
            return pixels[::-1] if matrix[4] < 0 else pixels
        case _:
            return pixels


def expected(
    path: Path,
    frames_per_chunk: int,
    chunk_duration: Fraction,
    image_size: int,
    start: Fraction = Fraction(0),
    end: Fraction | None = None,
) -> Expected:
    frames, refused, time_base = decoded(path, image_size)
    origin = frames[0].pts
    times = [(frame.pts - origin) * time_base for frame in frames]
    assert frames[-1].duration > 0 or len(frames) > 1
    duration = times[-1] + (frames[-1].duration * time_base or times[-1] - times[-2])
    duration = duration if end is None else min(duration, end)
    chunks = []
    for begin, length in pieces(duration, chunk_duration, start):
        wanted = [begin + i * length / frames_per_chunk for i in range(frames_per_chunk)]
        shown = [bisect_right(times, time) - 1 for time in wanted]
        pixels = np.stack([frames[i].pixels for i in shown])
        chunks.append(ExpectedChunk(begin, length, tuple(times[i] for i in shown), pixels))
    return Expected(chunks, duration, refused)
