"""Small test videos with known frame times, cuts and geometry, encoded on the spot."""

import os
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.packet import Packet as MediaPacket
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

MILLISECOND = Fraction(1, 1000)


def steady(rate: Fraction | int, seconds: Fraction | float | int) -> list[Fraction]:
    """The times of frames at a constant rate that last `seconds`; one at least."""
    count = max(1, round(Fraction(seconds) * rate))
    return [Fraction(i) / rate for i in range(count)]


def uneven(seconds: Fraction | float | int, seed: int = 1) -> list[Fraction]:
    """Times in whole milliseconds, 5 to 160 ms apart."""
    gaps = np.random.default_rng(seed).integers(5, 160, 10_000).tolist()
    times = accumulate((gap * MILLISECOND for gap in gaps), initial=Fraction(0))
    return [time for time in times if time < seconds]


def picture(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: a gradient in the scene's colour, a block that moves, and `index` as a row of squares.

    No two indices give the same picture.
    """
    pixels = _gradient(scene, width, height).copy()
    left = (3 * index) % max(1, width - width // 4)
    pixels[height // 3 : height // 3 + height // 4, left : left + width // 4] = 255 - pixels[0, 0]
    square = max(2, width // 16)
    for bit in range(12):
        pixels[-square:, bit * square : (bit + 1) * square] = 250 if index >> bit & 1 else 5
    return pixels


@lru_cache(maxsize=16)
def _gradient(scene: int, width: int, height: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    colour = np.random.default_rng(scene).uniform(0.2, 1.0, 3)
    shade = 60 + 140 * (x + (scene * 7 % 5) * y) / (width + (scene * 7 % 5) * height)
    return (shade[..., None] * colour).astype(np.uint8)


def calm_picture(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3]: one of four plain colours, and a small block that moves."""
    pixels = np.full(
        (height, width, 3), [(220, 40, 40), (40, 60, 220), (40, 200, 60), (230, 220, 60)][scene % 4], np.uint8
    )
    left = index % (width - width // 8)
    pixels[: height // 8, left : left + width // 8] = 255 - pixels[0, 0]
    return pixels


def render(
    path: Path,
    times: Sequence[Fraction],
    *,
    codec: str = "libx264",
    width: int = 64,
    height: int = 48,
    pixel_format: str = "yuv420p",
    start: Fraction | int = 0,
    time_base: Fraction | None = None,
    last: Fraction | None = None,
    cuts: Iterable[Fraction | float] = (),
    draw: Callable[[int, int, int, int], NDArray[np.uint8]] = picture,
    rotation: int = 0,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """One frame at each of `times` (seconds, from 0) after `start`.

    `draw` gets the number of the scene, which increases at each of `cuts`.

    The last frame is displayed for `last` seconds, by default as long as the rate says. `rotation`, in degrees
    counterclockwise, and `mirrored` are only written down for the player to obey.
    """
    rate, time_base = _rate_and_time_base(times, time_base)
    starts_of_scenes = sorted(Fraction(cut) for cut in cuts)
    with ExitStack() as stack:
        # For root, libsvtav1 gives the calling thread real-time priority: all other processes would wait for this one.
        stack.callback(os.sched_setscheduler, 0, os.sched_getscheduler(0), os.sched_getparam(0))
        container = stack.enter_context(
            av.open(str(path), "w", format=container_format, container_options=container_options or {})
        )
        stream = container.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = stream.time_base = time_base
        stream.codec_context.thread_count = 1
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        ticks = [round((start + time) / time_base) for time in times]
        durations: dict[int, int | None] = dict(
            zip(ticks, [*(b - a for a, b in pairwise(ticks)), round((last or 1 / rate) / time_base)], strict=True)
        )

        def mux(packets: list["MediaPacket[VideoStream]"]) -> None:
            for packet in packets:
                packet.duration = durations.get(packet.pts or 0, packet.duration)
            container.mux(packets)

        for index, time in enumerate(times):
            scene = sum(cut <= time for cut in starts_of_scenes)
            frame = av.VideoFrame.from_ndarray(draw(index, scene, width, height), format="rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.time_base = time_base
            frame.pts = ticks[index]
            mux(stream.encode(frame))
        mux(stream.encode(None))
    return path


def _rate_and_time_base(times: Sequence[Fraction], time_base: Fraction | None) -> tuple[Fraction, Fraction]:
    gaps = {b - a for a, b in pairwise(times)}
    if len(gaps) == 1:
        rate = 1 / gaps.pop()
        return rate, time_base or 1 / rate
    return Fraction(30), time_base or MILLISECOND


def remux(path: Path, *inputs: Path, cover: Path | None = None, damaged: Container[int] = ()) -> Path:
    """The first video stream of each input, as they are, in one file; `cover` becomes a cover picture.

    The packets of the first input whose numbers are in `damaged` are replaced by bytes that no decoder takes.
    """
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(path), "w"))
        streams = []
        for source in [*inputs, *([cover] if cover else [])]:
            container = stack.enter_context(av.open(str(source)))
            stream = output.add_stream_from_template(container.streams.video[0])
            stream.disposition = Disposition.attached_pic if source is cover else Disposition.default
            streams.append((container, stream))
        for container, stream in streams:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            for number, packet in enumerate(packets):
                if stream is streams[0][1] and number in damaged:
                    packet = _garbage(packet)
                packet.stream = stream
                output.mux(packet)
    return path


def _garbage(packet: "MediaPacket[VideoStream]") -> "MediaPacket[VideoStream]":
    damaged = cast("MediaPacket[VideoStream]", MediaPacket(b"\xff" * 40))
    damaged.pts, damaged.dts, damaged.duration = packet.pts, packet.dts, packet.duration
    damaged.time_base, damaged.is_keyframe = packet.time_base, packet.is_keyframe
    return damaged
