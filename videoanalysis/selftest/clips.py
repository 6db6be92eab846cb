"""Small valid clips in every accepted container, from which most attacks are made."""

import io
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from videoanalysis.selftest import iso

WIDTH, HEIGHT, FRAMES, RATE = 64, 32, 12, 12

# A constant quantiser: rate control does not give the same bytes every time.
_H264 = ("libx264", {"preset": "ultrafast", "qp": "30", "g": "6", "bf": "1"})
_VP8 = ("libvpx", {"deadline": "realtime", "cpu-used": "8"})
# File name suffix → FFmpeg's name of the format, codec and its options.
CONTAINERS: dict[str, tuple[str, tuple[str, dict[str, str]]]] = {
    "mp4": ("mp4", _H264),
    "mov": ("mov", ("mjpeg", {})),
    "m4a": ("ipod", _H264),
    "3gp": ("3gp", ("mpeg4", {})),
    "3g2": ("3g2", ("mpeg4", {})),
    "mkv": ("matroska", _H264),
    "webm": ("webm", _VP8),
    "ts": ("mpegts", _H264),
    "mpg": ("mpeg", ("mpeg2video", {})),
    "avi": ("avi", ("mpeg4", {})),
    "flv": ("flv", ("flv", {})),
    "asf": ("asf", ("wmv2", {})),
    "ogg": ("ogg", _VP8),
    "gif": ("gif", ("gif", {})),
    "mxf": ("mxf", ("mpeg2video", {})),
    "ivf": ("ivf", _VP8),
    "h264": ("h264", _H264),
}
_RATES = {"mxf": 25}  # which has no lower one
_MOVIES = frozenset({"mp4", "mov", "m4a", "3gp", "3g2"})
_PIXEL_FORMATS = {"gif": "rgb4_byte", "mjpeg": "yuvj420p", "png": "rgb24"}


def clip(
    suffix: str,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    frames: int = FRAMES,
    start: Fraction | int = 0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A second of moving gradients; the same bytes at every call."""
    container_format, (codec, codec_options) = CONTAINERS[suffix]
    file = io.BytesIO()
    with av.open(file, "w", format=container_format, options={"fflags": "+bitexact", **(options or {})}) as container:
        rate = _RATES.get(suffix, RATE)
        stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=codec_options))
        _configure(stream.codec_context, codec, width, height)
        for index in range(frames):
            frame = _frame(index, codec, width, height)
            frame.time_base = Fraction(1, rate)
            frame.pts = index + round(start * rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    # Otherwise a movie that is cut off has no headers.
    return iso.headers_first(file.getvalue()) if suffix in _MOVIES and options is None else file.getvalue()


def picture(codec: str, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """One encoded picture: `codec` is mjpeg or png."""
    context = cast(VideoCodecContext, av.CodecContext.create(codec, "w"))
    _configure(context, codec, width, height)
    context.time_base = Fraction(1, RATE)
    frame = _frame(0, codec, width, height)
    packets: list[Packet[VideoStream]] = [*context.encode(frame), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def _configure(context: VideoCodecContext, codec: str, width: int, height: int) -> None:
    context.width, context.height = width, height
    context.pix_fmt = _PIXEL_FORMATS.get(codec, "yuv420p")
    context.thread_count = 1
    if codec != "libx264":
        context.bit_rate = 200_000
    context.flags |= av.codec.context.Flags.bitexact


def _frame(index: int, codec: str, width: int, height: int) -> av.VideoFrame:
    row = (np.arange(width) * 4 + index * 16) % 256
    column = (np.arange(height) * 4 + index * 8) % 256
    pixels = np.stack(np.broadcast_arrays(row[None, :], column[:, None], np.array(index * 20)), axis=2)
    return av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24").reformat(
        format=_PIXEL_FORMATS.get(codec, "yuv420p")
    )
