"""CPU seconds of sampling a clip, compared with other ways to the same frames: python -m benchmarks.ways [VIDEO …]

The ffmpeg program in one pass, as in the Ray Serve baseline; PyAV, which decodes every frame; torchcodec and decord
where they are installed (`pip install -e '.[bench]'`). The floors: ffmpeg decoding only reference frames, or only key
frames, and doing nothing with them. Without arguments, the small clip of clips.py and those of 1080p.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.clips import clip
from benchmarks.sampling import CHUNK, FRAMES, SIZE, full, planned

_TOLERANCE = Fraction(1, 2)


class Skipped(Exception):
    """The alternative cannot be measured here; says why."""


def cpu_and_wall(work: Callable[[], object]) -> tuple[float, float]:
    """In seconds, child processes included."""
    before, start = os.times(), time.monotonic()
    work()
    after, wall = os.times(), time.monotonic() - start
    return sum(after[:4]) - sum(before[:4]), wall


def ffmpeg(path: Path, *options: str, output: tuple[str, ...] = ("-f", "null", "-")) -> None:
    if (program := shutil.which("ffmpeg")) is None:
        raise Skipped("no ffmpeg program")
    command = [program, "-v", "error", "-nostdin", *options, "-i", str(path), "-an", *output]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def ffmpeg_one_pass(path: Path) -> None:
    rate = f"fps={FRAMES}/{float(CHUNK):g},scale={SIZE}:{SIZE}"
    output = ("-vf", rate, "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    ffmpeg(path, "-threads", "1", output=output)


def torchcodec(path: Path, times: list[Fraction]) -> None:
    decoders = _package("torchcodec.decoders")
    decoder = decoders.VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1)
    decoder.get_frames_played_at([float(time) + 1e-6 for time in times])


def decord(path: Path, times: list[Fraction]) -> None:
    reader = _package("decord").VideoReader(str(path), width=SIZE, height=SIZE, num_threads=1)
    rate = reader.get_avg_fps()
    reader.get_batch([min(round(float(time) * rate), len(reader) - 1) for time in times])


def _package(name: str) -> Any:
    if find_spec(name.partition(".")[0]) is None:
        raise Skipped("not installed")
    try:
        return __import__(name, fromlist=["_"])
    except (ImportError, OSError, RuntimeError) as error:
        raise Skipped(f"does not load: {type(error).__name__}") from error


def compare(path: Path) -> None:
    times = planned(path).times
    ways: dict[str, Callable[[], object]] = {
        "ours, exact": lambda: planned(path),
        "ours, exact, 2 threads": lambda: planned(path, threads=2),
        f"ours, tolerance {float(_TOLERANCE):g} s": lambda: planned(path, tolerance=_TOLERANCE),
        "PyAV, every frame": lambda: full(path, times),
        "ffmpeg, one pass": lambda: ffmpeg_one_pass(path),
        "torchcodec": lambda: torchcodec(path, times),
        "decord": lambda: decord(path, times),
        "floor: ffmpeg, reference frames only": lambda: ffmpeg(path, "-threads", "1", "-skip_frame", "noref"),
        "floor: ffmpeg, key frames only": lambda: ffmpeg(path, "-threads", "1", "-skip_frame", "nokey"),
    }
    exact = 0.0
    for way, work in ways.items():
        try:
            cpu, wall = cpu_and_wall(work)
        except Skipped as reason:
            print(f"| {path.name} | {way} | {reason} | | |")
            continue
        exact = exact or cpu
        print(f"| {path.name} | {way} | {cpu:.2f} | {cpu / exact:.2f} | {wall:.2f} |", flush=True)


def main() -> None:
    for package in ("torchcodec.decoders", "decord"):  # importing them is not measured
        with suppress(Skipped):
            _package(package)
    print("| clip | way | CPU s | of ours, exact | wall s |")
    print("|---|---|---|---|---|")
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else (clip("384"), clip("1080p"), clip("1080p-gop-30")):
        compare(path)


if __name__ == "__main__":
    main()
