"""CPU seconds of planned sampling compared with a full decode, and what threads and a tolerance change:
python -m benchmarks.sampling [VIDEO …]

Without arguments, clips are rendered and kept in build/: noise that moves, 30 fps, 12 s; at 720p as usual (B-frames,
long groups), with a key picture every second, and without B-frames; at 1080p with a key picture every second. Then the
shared real videos, where they are.
"""

import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np

from benchmarks.clips import shared
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.pixels import Resizer
from services.ingress.sampling.sampler import Sampler

FRAMES, CHUNK, SIZE, REPEATS = 16, Fraction(10), 384, 3
TOLERANCE, REUSE = Fraction(1, 2), 0.03
CLIPS = {
    "720p-b-frames-groups-of-250": (720, {"preset": "veryfast", "x264-params": "scenecut=0"}),
    "720p-b-frames-groups-of-30": (720, {"preset": "veryfast", "g": "30"}),
    "720p-no-b-frames-groups-of-30": (720, {"preset": "veryfast", "g": "30", "bf": "0"}),
    "1080p-b-frames-groups-of-30": (1080, {"preset": "veryfast", "g": "30"}),
}
REAL = ("sam2_juggle.mp4", "intel_bottle-detection.mp4", "bbb_2500ms.ts", "mdn_flower.webm", "mov_bbb.mp4")
CACHE = Path(__file__).parents[1] / "build" / "sampling"


@dataclass(frozen=True)
class Planned:
    decoded: int
    handed_out: int
    times: list[Fraction]


def planned(path: Path, *, tolerance: Fraction = Fraction(0), reuse: float = 0.0, threads: int = 1) -> Planned:
    out = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    times: list[Fraction] = []
    handed_out = 0
    with Sampler(
        str(path),
        frames_per_chunk=FRAMES,
        chunk_duration=CHUNK,
        image_size=SIZE,
        limits=SamplingLimits(),
        tolerance=tolerance,
        reuse_difference=reuse,
        threads=threads,
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            times += chunk.frame_times
            handed_out += chunk.frame_count
        return Planned(sampler.frames_decoded, handed_out, times)


def full(path: Path, wanted: list[Fraction]) -> int:
    """Every frame decoded, those at the `wanted` times resized: the least that a sampler without a plan does."""
    resize = Resizer(SIZE)
    out = np.empty((SIZE, SIZE, 3), np.uint8)
    decoded, origin = 0, None
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            decoded += 1
            origin = frame.pts if origin is None else origin
            at = (frame.pts - origin) * stream.time_base
            if (place := bisect_right(wanted, at)) and wanted[place - 1] == at:
                out[:] = resize(frame)
    return decoded


def cpu_seconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def compare(path: Path) -> None:
    exact, near, alike = planned(path), planned(path, tolerance=TOLERANCE), planned(path, reuse=REUSE)
    of = full(path, exact.times)
    ways: dict[str, Callable[[], object]] = {
        "full": lambda: full(path, exact.times),
        "exact": lambda: planned(path),
        "threads": lambda: planned(path, threads=2),
        "near": lambda: planned(path, tolerance=TOLERANCE),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(REPEATS):  # in turns, so that all run on the same machine
        for way, work in ways.items():
            seconds[way].append(cpu_seconds(work))
    cpu = {way: median(taken) for way, taken in seconds.items()}
    print(
        f"| {path.name} | {exact.decoded} of {of} | {cpu['full'] / cpu['exact']:.2f} "
        f"| {cpu['threads'] / cpu['exact']:.2f} | {near.decoded} | {cpu['exact'] / cpu['near']:.1f} "
        f"| {alike.handed_out} of {len(alike.times)} |"
    )


def rendered(name: str, height: int, options: dict[str, str]) -> Path:
    path = CACHE / f"{name}.mp4"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    width, margin = height * 16 // 9, 400
    noise = np.random.default_rng(1).integers(0, 256, ((height + margin) // 8, (width + margin) // 8, 3), np.uint8)
    world = np.repeat(np.repeat(noise, 8, axis=0), 8, axis=1)
    unfinished = path.with_suffix(".unfinished.mp4")
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(360):
            x, y = (int(margin / 2 * (1 + wave(index / period))) for wave, period in ((np.sin, 40), (np.cos, 23)))
            view = np.ascontiguousarray(world[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))
    return unfinished.rename(path)


def main() -> None:
    print("| clip | decoded, of all | full : exact | 2 threads : 1 | decoded near | exact : near | handed out alike |")
    print("|---|---|---|---|---|---|---|")
    for path in map(Path, sys.argv[1:]):
        compare(path)
    if len(sys.argv) == 1:
        for name, (height, options) in CLIPS.items():
            compare(rendered(name, height, options))
        for path in shared(*REAL):
            compare(path)


if __name__ == "__main__":
    main()
