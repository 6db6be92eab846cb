"""Rendered clips of a given number of chunks, encoded as the clip of the Ray Serve baseline's load test.

384 x 384 at 30 frames a second, H.264 main, a keyframe every second, no B-frames; one scene without a cut. A clip of
one chunk lasts 8.27 s, as the baseline's; a longer one repeats the packets of one chunk of 10 s.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SIZE = 384
_RATE = 30
_ONE_CHUNK_FRAMES = 248
_CHUNK_FRAMES = 300
_BLOCK = 96
_NOISE = 12
# Without B-frames pts = dts.
_OPTIONS = {
    "profile": "main",
    "preset": "veryfast",
    "bf": "0",
    "g": str(_RATE),
    "keyint_min": str(_RATE),
    "sc_threshold": "0",
}


def render(path: Path, chunks: int) -> Path:
    """Write an MP4 of `chunks` chunks to `path`. Needs PyAV."""
    import av
    from av.packet import Packet
    from av.video.stream import VideoStream

    frames = _ONE_CHUNK_FRAMES if chunks == 1 else _CHUNK_FRAMES
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options=_OPTIONS)
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, _RATE)
        stream.codec_context.thread_count = 1
        encoded = []
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(_picture(number), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            encoded += stream.encode(frame)
        encoded += stream.encode(None)
        # Muxing a packet consumes it, so each repetition makes new ones of the bytes.
        packets = [(bytes(packet), packet.pts or 0, packet.is_keyframe) for packet in encoded]
        for repetition in range(chunks):
            for data, pts, is_keyframe in packets:
                packet = Packet(data)
                packet.stream = stream
                packet.time_base = Fraction(1, _RATE)
                packet.pts = packet.dts = pts + repetition * frames
                packet.duration = 1
                packet.is_keyframe = is_keyframe
                container.mux(packet)
    return path


def _picture(number: int) -> NDArray[np.uint8]:
    """uint8 [384, 384, 3]: a texture with noise and a moving block; one scene without a cut."""
    texture = np.random.default_rng(0).integers(30, 220, (12, 12, 3), dtype=np.uint8)
    pixels = texture.repeat(_SIZE // 12, axis=0).repeat(_SIZE // 12, axis=1)
    noise = np.random.default_rng(number).integers(0, _NOISE, pixels.shape[:2], dtype=np.uint8)
    pixels = pixels + noise[..., None]
    left = 4 * number % (_SIZE - _BLOCK)
    pixels[160 : 160 + _BLOCK, left : left + _BLOCK] += 20
    return pixels
