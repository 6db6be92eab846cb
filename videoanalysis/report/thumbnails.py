"""Small pictures of the frames of a video file, for its owner: nothing here guards against hostile files.

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
# Over a longer gap it is cheaper to leap to the key picture before the wanted one than to decode what lies between.
_LEAP_SECONDS = 3
# A leap may end behind the wanted frame where a container counts by decoding time; then it starts earlier.
_RUN_UP_SECONDS = (0, 10)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Upright, with square pixels."""

    jpeg: bytes
    width: int
    height: int


def take(path: Path, times_seconds: Iterable[float], *, budget_seconds: float) -> Iterator[tuple[float, Thumbnail]]:
    """For each of the ascending times, counted from the first frame of the video, the frame on display then.

    Ends early where the file cannot be decoded, or when the budget is spent.
    """
    until = time.monotonic() + budget_seconds
    try:
        with _Player(path) as player:
            for seconds in times_seconds:
                yield seconds, _photograph(player.show(seconds), player.pixel_aspect)
                if time.monotonic() > until:
                    return
    except (av.FFmpegError, OSError):
        return


class _Player:
    """The best video stream of a file, played forward. Raises av.FFmpegError or OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._can_leap = True
        # The frame on display and the one after it, each with its pts.
        self._shown: tuple[int, VideoFrame] | None = None
        self._ahead: tuple[int, VideoFrame] | None = None
        self._open()
        self._origin = self._ahead[0] if self._ahead is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height."""
        return self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or Fraction(1)

    def show(self, seconds: float) -> VideoFrame:
        """The frame on display then; `seconds` never decrease."""
        tick = self._origin + round(Fraction(seconds) / self._time_base)
        if self._can_leap and self._shown and tick > self._shown[0] + _LEAP_SECONDS / self._time_base:
            self._leap(tick)
        while self._ahead and (self._shown is None or self._ahead[0] <= tick):
            self._shown, self._ahead = self._ahead, next(self._frames, None)
        if self._shown is None:
            raise OSError(f"{self._path}: no frame can be decoded")
        return self._shown[1]

    def _leap(self, tick: int) -> None:
        for run_up in _RUN_UP_SECONDS:
            self._container.seek(max(self._origin, tick - round(run_up / self._time_base)), stream=self._stream)
            self._play()
            if self._ahead and self._ahead[0] <= tick:
                return
        # Played from the start once more, it shows everything.
        self._can_leap = False
        self._container.close()
        self._open()

    def _open(self) -> None:
        self._container = av.open(f"file:{self._path}", metadata_errors="replace")
        try:
            self._stream = self._best_stream()
            self._stream.thread_type = "AUTO"
            assert self._stream.time_base is not None
            self._time_base = self._stream.time_base
            self._play()
        except BaseException:
            self._container.close()
            raise

    def _play(self) -> None:
        self._frames = self._decode()
        self._shown, self._ahead = None, next(self._frames, None)

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                # Of a damaged packet; the frame before it stays on display.
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


def _photograph(frame: VideoFrame, pixel_aspect: Fraction) -> Thumbnail:
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
