"""CPU time and bytes read for the last minute of a long video, compared with a one-minute video.

python -m benchmarks.ranges [MINUTES [CONTAINER …]]
"""

import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.media_reader import MediaFile
from services.ingress.sampling.sampler import Sampler

WIDTH, HEIGHT, RATE = 640, 360, 25
IMAGE_SIZE, FRAMES, CHUNK_SECONDS = 384, 16, 10
RUNS = 3
H264, VP8 = "libx264", "libvpx"
CODECS = {"mp4": H264, "mkv": H264, "ts": H264, "ogg": VP8}
ENCODER_OPTIONS = {H264: {"preset": "fast"}, VP8: {"deadline": "realtime", "cpu-used": "8"}}


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        print("| container | video | CPU, of a one-minute video | bytes read, of the file | frames decoded |")
        print("|---|---|---|---|---|")
        for container in sys.argv[2:] or CODECS:
            codec = CODECS[container]
            minute = render(Path(folder) / f"{codec}.mkv", codec)
            short = repeated(minute, 1, Path(folder) / f"short.{container}")
            long = repeated(minute, minutes, Path(folder) / f"long.{container}")
            compare(container, minutes, short, long)


def compare(container: str, minutes: int, short: Path, long: Path) -> None:
    start = Fraction(60 * (minutes - 1))
    runs = [(sample(short, Fraction(0)), sample(long, start)) for _ in range(RUNS)]
    ratio = statistics.median(of_range.cpu / of_minute.cpu for of_minute, of_range in runs)
    of_minute, of_range = runs[0]
    share = of_range.bytes_read / long.stat().st_size
    print(f"| {container} | one minute | 1 | 1.000 | {of_minute.frames} |")
    print(f"| {container} | last minute of {minutes} | {ratio:.2f} | {share:.3f} | {of_range.frames} |", flush=True)


class Cost:
    def __init__(self, cpu: float, bytes_read: int, frames: int) -> None:
        self.cpu = cpu
        self.bytes_read = bytes_read
        self.frames = frames


def sample(video: Path, start: Fraction) -> Cost:
    read: list[int] = []

    def fetch(first: int, last: int) -> int:
        read.append(last - first)
        return last

    before = cpu_seconds()
    out = np.empty((FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    with video.open("rb") as file:
        media = MediaFile(file.fileno(), video.stat().st_size, fetch)
        with Sampler(
            media,
            frames_per_chunk=FRAMES,
            chunk_duration=Fraction(CHUNK_SECONDS),
            image_size=IMAGE_SIZE,
            limits=SamplingLimits(),
            start=start,
        ) as sampler:
            while sampler.next_chunk(out) is not None:
                pass
            return Cost(cpu_seconds() - before, sum(read), sampler.frames_decoded)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def render(path: Path, codec: str) -> Path:
    """A minute of moving noise, with a key frame every two seconds."""
    texture = np.random.default_rng(1).integers(0, 256, (HEIGHT // 4, WIDTH, 3), np.uint8).repeat(4, axis=0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"g": str(2 * RATE), **ENCODER_OPTIONS[codec]})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(60 * RATE):
            picture = np.roll(texture, 2 * index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def repeated(minute: Path, times: int, path: Path) -> Path:
    """The packets of `minute` one time after another."""
    with av.open(str(minute)) as source, av.open(str(path), "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        assert video.time_base is not None
        length = round(60 / video.time_base)
        mux: Callable[[object], None] = target.mux  # type: ignore[assignment]
        for number in range(times):
            source.seek(0)
            for packet in source.demux(video):
                if packet.size and packet.pts is not None and packet.dts is not None:
                    packet.pts += number * length
                    packet.dts += number * length
                    packet.stream = stream
                    mux(packet)
    return path


if __name__ == "__main__":
    main()
