"""Re-encodes a video: letterboxed to a square, at a constant rate, with a key frame every second, without sound."""

from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph
from av.video.stream import VideoStream

SIZE = 384
RATE = 30
_FORMATS = "mov,mp4,matroska,webm"


def normalise(source: Path, target: Path) -> None:
    """Raises av.FFmpegError or ValueError for what cannot be decoded."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    with (
        av.open(f"file:{source}", options=options) as video,
        av.open(str(target), "w", format="mp4", container_options={"movflags": "+faststart"}) as output,
    ):
        if not video.streams.video:
            raise ValueError("no video stream")
        stream = video.streams.video[0]
        encoder = output.add_stream(
            "libx264",
            rate=RATE,
            options={
                **{"preset": "fast", "profile": "main"},
                **{"g": str(RATE), "keyint_min": str(RATE), "sc_threshold": "0"},
            },
        )
        assert isinstance(encoder, VideoStream)
        encoder.width = encoder.height = SIZE
        encoder.pix_fmt = "yuv420p"
        encoder.time_base = encoder.codec_context.time_base = Fraction(1, RATE)
        graph = _letterbox(stream)
        for frame in video.decode(stream):
            graph.push(frame)
            _encode(graph, encoder, output)
        graph.push(None)
        _encode(graph, encoder, output)
        output.mux(encoder.encode(None))


def _letterbox(stream: VideoStream) -> Graph:
    graph = Graph()
    filters = [
        graph.add_buffer(template=stream),
        graph.add("scale", f"{SIZE}:{SIZE}:force_original_aspect_ratio=decrease:force_divisible_by=2"),
        graph.add("pad", f"{SIZE}:{SIZE}:(ow-iw)/2:(oh-ih)/2"),
        graph.add("setsar", "1"),
        graph.add("fps", str(RATE)),
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*filters).configure()
    return graph


def _encode(graph: Graph, encoder: VideoStream, output: av.container.OutputContainer) -> None:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        frame.pict_type = 0
        output.mux(encoder.encode(frame))
