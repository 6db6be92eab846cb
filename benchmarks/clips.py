"""The large clips of the benchmarks, rendered once and kept under build/clips.

Real footage, scaled up, with noise so that nothing stands still: the videos in `../shared/videos` where there are
any, else the bundled sample clip. A few seconds are encoded, at x264's default preset where they are 1080p, and
repeated as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, cycle, islice
from pathlib import Path

import av
from av.video.frame import VideoFrame

_ROOT = Path(__file__).parents[1]
FOLDER = _ROOT / "build" / "clips"
_SHARED = _ROOT.parent / "shared" / "videos"
_SAMPLE = _ROOT / "services" / "ingress" / "sources" / "sample_clip.mp4"
_RATE = 30
_FRAMES_OF_A_SHOT = 150


def shared(*names: str) -> list[Path]:
    """The paths of those of the shared real videos that exist."""
    return [path for name in names if (path := _SHARED / name).exists()]


@dataclass(frozen=True)
class Clip:
    width: int
    height: int
    bits_per_second: int
    seconds: float  # that are encoded
    repeats: int
    options: dict[str, str]


CLIPS = {
    "384": Clip(384, 384, 880_000, 8.3, 1, {}),
    "720p": Clip(1280, 720, 1_200_000, 10, 3, {}),
    "1080p": Clip(1920, 1080, 2_000_000, 20, 3, {}),
    "1080p-gop-30": Clip(1920, 1080, 2_000_000, 10, 6, {"g": "30"}),
    "4k": Clip(3840, 2160, 8_000_000, 3, 4, {"preset": "veryfast"}),
}


def clip(name: str) -> Path:
    """The path of the clip, which is rendered if it is missing."""
    path = FOLDER / f"{name}.mp4"
    if path.exists():
        return path
    wanted = CLIPS[name]
    FOLDER.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished.mp4")
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options=wanted.options)
        stream.width, stream.height, stream.pix_fmt = wanted.width, wanted.height, "yuv420p"
        stream.bit_rate = wanted.bits_per_second
        frames = round(wanted.seconds * _RATE)
        packets = []
        for index, frame in enumerate(islice(_noisy(wanted.width, wanted.height), frames)):
            frame.pts, frame.time_base, frame.pict_type = index, Fraction(1, _RATE), 0
            packets += stream.encode(frame)
        packets += stream.encode(None)
        contents = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        for repeat in range(wanted.repeats):
            for content, pts, dts, is_keyframe in contents:
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, stream.codec_context.time_base
                packet.pts, packet.dts, packet.duration = pts + repeat * frames, dts + repeat * frames, 1
                packet.is_keyframe = is_keyframe
                container.mux(packet)
    return unfinished.rename(path)


def _noisy(width: int, height: int) -> Iterator[VideoFrame]:
    """Shots of five seconds from each of the videos in turn, scaled up."""
    sources = shared("sam2_juggle.mp4", "mdn_friday.mp4", "nasa_13013.mp4") or [_SAMPLE]
    for index in count():
        graph = av.filter.Graph()
        with av.open(str(sources[index % len(sources)])) as container:
            stream = container.streams.best("video")
            shot = list(islice(container.decode(stream), _FRAMES_OF_A_SHOT))
            source = graph.add_buffer(template=stream)
            scale = graph.add("scale", f"{width}:{height}:flags=bicubic")
            noise = graph.add("noise", f"alls=6:allf=t:all_seed={index + 1}")
            form, sink = graph.add("format", "yuv420p"), graph.add("buffersink")
            graph.link_nodes(source, scale, noise, form, sink).configure()
            for frame in islice(cycle([*shot, *reversed(shot)]), _FRAMES_OF_A_SHOT):
                frame.pts = None
                graph.push(frame)
                yield graph.pull()
