"""CPU seconds of planned sampling compared with a full decode: python -m benchmarks.sampling [VIDEO …]

Without arguments, clips are rendered: noise that moves, 1280x720, 30 fps, 12 s, as usual (B-frames, long groups), with
a key picture every second, and without B-frames.
"""

import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np

from services.ingress.sampling.pixels import Resizer
from services.ingress.sampling.sampler import Sampler, SamplingLimits

FRAMES, CHUNK, SIZE, REPEATS = 16, Fraction(10), 384, 5
CLIPS = {
    "B-frames, groups of 250": {"preset": "veryfast", "x264-params": "scenecut=0"},
    "B-frames, groups of 30": {"preset": "veryfast", "g": "30"},
    "no B-frames, groups of 30": {"preset": "veryfast", "g": "30", "bf": "0"},
}


def planned(path: Path) -> tuple[int, list[Fraction]]:
    """Frames decoded, and the times of those sampled."""
    out = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    times: list[Fraction] = []
    limits = SamplingLimits()
    with Sampler(str(path), frames_per_chunk=FRAMES, chunk_duration=CHUNK, image_size=SIZE, limits=limits) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            times += chunk.frame_times
        return sampler.frames_decoded, times


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


def compare(name: str, path: Path) -> None:
    decoded, times = planned(path)
    of = full(path, times)
    ours, theirs = [], []
    for _ in range(REPEATS):  # interleaved, so that both see the same machine
        ours.append(cpu_seconds(lambda: planned(path)))
        theirs.append(cpu_seconds(lambda: full(path, times)))
    ratio = median(theirs) / median(ours)
    print(
        f"{name:28} {decoded:5} of {of:5} frames decoded   planned {median(ours):.2f} s   full {median(theirs):.2f} s"
        f"   {ratio:.2f}x"
    )


def render(path: Path, options: dict[str, str]) -> Path:
    width, height, margin = 1280, 720, 400
    noise = np.random.default_rng(1).integers(0, 256, ((height + margin) // 8, (width + margin) // 8, 3), np.uint8)
    world = np.repeat(np.repeat(noise, 8, axis=0), 8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(360):
            x, y = (int(margin / 2 * (1 + wave(index / period))) for wave, period in ((np.sin, 40), (np.cos, 23)))
            view = np.ascontiguousarray(world[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        compare(path.name, path)
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory() as folder:
            for name, options in CLIPS.items():
                compare(name, render(Path(folder) / "clip.mp4", options))


if __name__ == "__main__":
    main()
