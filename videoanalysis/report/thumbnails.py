"""Makes thumbnails of frames of a trusted video file: hostile files are not guarded against.

Needs PyAV, which is not installed with the client.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

SIDE = 192  # pixels of the longer one
_QUANTIZER = 4  # of the JPEG encoder, from 2, the best, to 31
# Over a longer gap it is cheaper to seek to the key frame before the wanted frame than to decode up to it.
_SEEK_SECONDS = 3
# A seek may end after the wanted frame where a container indexes by decoding time; it is then repeated earlier.
_SEEK_MARGINS_SECONDS = (0, 10)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Upright, with square pixels."""

    jpeg: bytes
    width: int
    height: int


def take(path: Path, times_seconds: Iterable[float], *, budget_seconds: float) -> Iterator[tuple[float, Thumbnail]]:
    """For each of the ascending times, counted from the first frame of the video, the frame on display then.

    Ends early if the file cannot be decoded or the budget is spent.
    """
    until = time.monotonic() + budget_seconds
    try:
        with _Reader(path) as reader:
            for seconds in times_seconds:
                yield seconds, _thumbnail(reader.frame_at(seconds), reader.pixel_aspect)
                if time.monotonic() > until:
                    return
    except (av.FFmpegError, OSError):
        return


class _Reader:
    """Reads the best video stream of a file forward. Raises av.FFmpegError or OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._can_seek = True
        # The frame on display and the next one, each with its pts.
        self._current: tuple[int, VideoFrame] | None = None
        self._next: tuple[int, VideoFrame] | None = None
        self._open()
        self._origin = self._next[0] if self._next is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height."""
        return self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or Fraction(1)

    def frame_at(self, seconds: float) -> VideoFrame:
        """The frame on display then; `seconds` never decrease."""
        tick = self._origin + round(Fraction(seconds) / self._time_base)
        if self._can_seek and self._current and tick > self._current[0] + _SEEK_SECONDS / self._time_base:
            self._seek(tick)
        while self._next and (self._current is None or self._next[0] <= tick):
            self._current, self._next = self._next, next(self._frames, None)
        if self._current is None:
            raise OSError(f"{self._path}: no frame can be decoded")
        return self._current[1]

    def _seek(self, tick: int) -> None:
        for margin in _SEEK_MARGINS_SECONDS:
            self._container.seek(max(self._origin, tick - round(margin / self._time_base)), stream=self._stream)
            self._start_decoding()
            if self._next and self._next[0] <= tick:
                return
        # Decoding from the start reaches every frame.
        self._can_seek = False
        self._container.close()
        self._open()

    def _open(self) -> None:
        self._container = av.open(f"file:{self._path}", metadata_errors="replace")
        try:
            self._stream = self._best_stream()
            self._stream.thread_type = "AUTO"
            assert self._stream.time_base is not None
            self._time_base = self._stream.time_base
            self._start_decoding()
        except BaseException:
            self._container.close()
            raise

    def _start_decoding(self) -> None:
        self._frames = self._decode()
        self._current, self._next = None, next(self._frames, None)

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                # A damaged packet: the previous frame stays on display.
                continue
            yield from ((frame.pts, frame) for frame in frames if frame.pts is not None)

    def _best_stream(self) -> VideoStream:
        best = self._container.streams.best("video")
        moving = [
            stream for stream in self._container.streams.video if not stream.disposition & Disposition.attached_pic
        ]
        if not moving:
            raise OSError(f"{self._path}: no video stream")
        return next((stream for stream in moving if stream is best), moving[0])


def _thumbnail(frame: VideoFrame, pixel_aspect: Fraction) -> Thumbnail:
    width, height = frame.width * float(pixel_aspect), float(frame.height)
    scale = SIDE / max(width, height)
    small = frame.reformat(_even(width * scale), _even(height * scale), format="rgb24")
    upright: NDArray[np.uint8] = np.ascontiguousarray(np.rot90(small.to_ndarray(), round(frame.rotation / 90)))
    picture = VideoFrame.from_ndarray(upright, format="rgb24").reformat(format="yuvj420p")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.qmin = encoder.qmax = _QUANTIZER
    jpeg = b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
    return Thumbnail(jpeg, picture.width, picture.height)


def _even(pixels: float) -> int:
    return max(2, 2 * round(pixels / 2))
