"""Cuts compared with the truth and with PySceneDetect: python -m benchmarks.cuts [VIDEOS]

Rendered sets of clips, and VIDEOS: a directory of clips with a cuts.json, as {"videos": {name: {"hard_cuts":
[{"from_first_frame": seconds}], "gradual": []}}}. Shots out of those without a cut are also joined, so that the truth
is exact. A cut is found if one is reported within a frame of it. Every other one reported is false. CPU time: ours is
that of sampling with cuts less that of sampling without, the detectors' that of reading and detecting less that of
reading every frame.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, open_video

from services.encoder.bundled.scenes import random_scene
from services.encoder.bundled.scenes import render as render_scene
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampler import Sampler
from tests.rendering import render, steady

RATE, SIZE, SECONDS, CLIPS_EACH, REPEATS = 25, 192, 12, 3, 1
FRAMES, CHUNK, IMAGE_SIZE = 16, Fraction(10), 384
JOINED_SECONDS, JOINED_RATES, JOINED_CRF = 30, (24, 30, 60), (23, 32)
MIN_SEEN, MIN_SEEN_DARK = 8, 4  # of 255: mean difference of the pictures at a cut
Picture = NDArray[np.uint8]


@dataclass(slots=True)
class Score:
    cuts: int = 0
    found: int = 0
    false: int = 0
    cpu: list[float] = field(default_factory=list)

    def add(self, reported: list[float], true: list[float], frame: float) -> None:
        left = list(true)
        for cut in reported:
            near = [one for one in left if abs(one - cut) <= 1.01 * frame + 0.001]
            if near:
                left.remove(min(near, key=lambda one: abs(one - cut)))
        self.cuts += len(true)
        self.found += len(true) - len(left)
        self.false += len(reported) - (len(true) - len(left))

    @property
    def f1(self) -> float:
        total = 2 * self.found + self.false + self.cuts - self.found
        return 2 * self.found / total if total else 1.0


def sample(path: Path, *, cuts: bool) -> list[float]:
    out = np.empty((FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    found: list[float] = []
    with Sampler(
        str(path),
        frames_per_chunk=FRAMES,
        chunk_duration=CHUNK,
        image_size=IMAGE_SIZE,
        limits=SamplingLimits(),
        detect_cuts=cuts,
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            found += [float(cut.time) for cut in chunk.cuts]
    return found


def scenedetect(path: Path, detector: Callable[[], object]) -> list[float]:
    video = open_video(str(path), backend="pyav")
    manager = SceneManager()
    manager.add_detector(detector())
    manager.detect_scenes(video)
    return [scene[0].seconds for scene in manager.get_scene_list()[1:]]


def read(path: Path) -> None:
    with av.open(str(path)) as container:
        for _ in container.decode(container.streams.best("video")):
            pass


DETECTORS = {
    "ours": lambda path: sample(path, cuts=True),
    "ContentDetector": lambda path: scenedetect(path, ContentDetector),
    "AdaptiveDetector": lambda path: scenedetect(path, AdaptiveDetector),
}


def seconds_of(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


# ---- rendered clips: what is shown at each frame, and the true cuts


def scenes(random: np.random.Generator) -> Callable[[int], Picture]:
    scene = random_scene(random)
    return lambda index: render_scene(scene, index / RATE, SIZE)


def edited(random: np.random.Generator, join: str) -> tuple[Callable[[int], Picture], list[int]]:
    """Shots of 1 to 4 s, cut hard or joined by a dissolve, a fade or a moment of black."""
    edges = [0]
    while edges[-1] < SECONDS * RATE:
        edges.append(edges[-1] + int(random.integers(RATE, 4 * RATE)))
    shots = [scenes(random) for _ in edges]
    lengths = [int(random.integers(8, 25)) for _ in edges]

    def draw(index: int) -> Picture:
        number = sum(edge <= index for edge in edges) - 1
        shown, past = shots[number](index), index - edges[number]
        if number == 0 or join == "hard":
            return shown
        share = min(1.0, (past + 1) / lengths[number])
        if join == "dissolve" and share < 1:
            return ((1 - share) * shots[number - 1](index) + share * shown).astype(np.uint8)
        if join == "fade" and share < 1:
            side = shown if share > 0.5 else shots[number - 1](index)
            return (abs(2 * share - 1) * side).astype(np.uint8)
        if join == "black" and past < lengths[number] // 3:
            return np.zeros_like(shown)
        return shown

    cuts = [edge for edge in edges[1:] if edge < SECONDS * RATE - 1]
    if join == "black":
        cuts = [edge + lengths[number] // 3 for number, edge in enumerate(edges[1:], 1) if edge < SECONDS * RATE - 10]
    return draw, cuts if join in {"hard", "black"} else []


def flashes(random: np.random.Generator) -> tuple[Callable[[int], Picture], list[int]]:
    shot = scenes(random)
    lit = {int(start) + more for start in random.integers(20, SECONDS * RATE - 20, 12) for more in range(2)}

    def draw(index: int) -> Picture:
        return np.clip(shot(index).astype(int) + (140 if index in lit else 0), 0, 255).astype(np.uint8)

    return draw, []


def camera(random: np.random.Generator, speed: float, jitter: float) -> tuple[Callable[[int], Picture], list[int]]:
    """A world seen by a camera that pans and shakes."""
    world = np.zeros((4 * SIZE, 8 * SIZE, 3))
    for octave in range(2, 7):
        noise = random.normal(size=(2**octave, 2 ** (octave + 1), 3))
        world += (
            np.repeat(np.repeat(noise, world.shape[0] >> octave, 0), world.shape[1] >> (octave + 1), 1) / 1.6**octave
        )
    world = np.uint8(255 * (world - world.min()) / (world.max() - world.min()))
    place, velocity, path = np.array([1.5 * SIZE, 0.0]), np.zeros(2), []
    for index in range(SECONDS * RATE):
        velocity = 0.7 * velocity + random.normal(0, jitter, 2) - [0.05 * (place[0] - 1.5 * SIZE), 0]
        place = place + velocity + [0, speed * np.sin(index / 60)]
        path.append((int(np.clip(place[0], 0, 3 * SIZE)), int(np.clip(place[1] + 3 * SIZE, 0, 7 * SIZE))))
    return lambda index: world[path[index][0] : path[index][0] + SIZE, path[index][1] : path[index][1] + SIZE], []


SETS: dict[str, Callable[[np.random.Generator], tuple[Callable[[int], Picture], list[int]]]] = {
    "hard cuts": lambda random: edited(random, "hard"),
    "cuts through black": lambda random: edited(random, "black"),
    "dissolves": lambda random: edited(random, "dissolve"),
    "fades": lambda random: edited(random, "fade"),
    "flashes": flashes,
    "pans": lambda random: camera(random, 6, 0),
    "held by hand": lambda random: camera(random, 1, 1.5),
}
OPTIONS = [{}, {"g": "30"}, {"x264-params": "scenecut=0:keyint=250"}]


def clips(directory: Path, name: str) -> Iterator[tuple[Path, list[float], float]]:
    for number in range(CLIPS_EACH):
        draw, cuts = SETS[name](np.random.default_rng(number))
        path = directory / f"{number}.mp4"
        options = OPTIONS[number % len(OPTIONS)]
        render(
            path,
            steady(RATE, SECONDS),
            draw=lambda index, *_, draw=draw: np.ascontiguousarray(draw(index)),
            width=SIZE,
            height=SIZE,
            options={"preset": "veryfast", **options},
        )
        yield path, [cut / RATE for cut in cuts], 1 / RATE


# ---- real shots, cut together


def uncut(directory: Path) -> list[NDArray[np.uint8]]:
    """The pictures of each clip without a cut or transition: uint8 [frames, SIZE, SIZE, 3]."""
    shots = []
    for name, truth in json.loads((directory / "cuts.json").read_text())["videos"].items():
        if not truth["hard_cuts"] and not truth["gradual"]:
            with av.open(str(directory / name)) as container:
                frames = container.decode(container.streams.best("video"))
                shots.append(np.stack([frame.to_ndarray(format="rgb24", width=SIZE, height=SIZE) for frame in frames]))
    return shots


def joined(shots: list[NDArray[np.uint8]], kind: str, folder: Path) -> Iterator[tuple[Path, list[float], float]]:
    """Clips of pieces of the shots: 0.5 to 4 s each, or every second one a few frames if they are "short".

    "Dark" ones are shown with 12 to 35 % of the light. "Mixed" ones begin with a picture of both shots, as after a
    change of the frame rate.
    """
    for number, rate in enumerate(JOINED_RATES):
        random = np.random.default_rng(number)
        pictures: list[Picture] = []
        cuts: list[int] = []
        while len(pictures) < JOINED_SECONDS * rate:
            shot = shots[random.integers(len(shots))]
            length = int(random.uniform(0.5, 4) * rate)
            if kind == "short" and random.random() < 0.5:
                length = int(random.integers(3, 7))
            start = int(random.integers(max(1, len(shot) - length)))
            piece = shot[start : start + length]
            if kind == "dark":
                piece = (piece * random.uniform(0.12, 0.35)).astype(np.uint8)
            if pictures:
                change = np.abs(piece[0].astype(int) - pictures[-1]).mean()
                if change < (MIN_SEEN_DARK if kind == "dark" else MIN_SEEN):
                    continue  # too alike for a cut
                cuts.append(len(pictures))
                if kind == "mixed":
                    piece = np.concatenate([piece[:1] // 2 + pictures[-1] // 2, piece[1:]])
            pictures += list(piece)
        path = folder / f"{number}.mp4"
        render(
            path,
            steady(rate, Fraction(len(pictures), rate)),
            draw=lambda index, *_, pictures=pictures: np.ascontiguousarray(pictures[index]),
            width=SIZE,
            height=SIZE,
            options={"preset": "veryfast", "crf": str(JOINED_CRF[number % 2]), **OPTIONS[number]},
        )
        yield path, [cut / rate for cut in cuts], 1 / rate


def real(directory: Path) -> Iterator[tuple[Path, list[float], float]]:
    for name, truth in json.loads((directory / "cuts.json").read_text())["videos"].items():
        shown = truth.get("best_stream", truth)
        frame = (shown["last_pts"] - shown["first_pts"]) / max(1, shown["frames"] - 1)
        with tempfile.TemporaryDirectory() as folder:
            path = best_stream(directory / name, Path(folder))
            yield path, [cut["from_first_frame"] for cut in shown["hard_cuts"]], frame


def best_stream(path: Path, folder: Path) -> Path:
    """A file with the best video stream alone, as every detector must see the same: PySceneDetect takes the first."""
    with av.open(str(path)) as source:
        best = source.streams.best("video")
        if len(source.streams.video) == 1 or not isinstance(best, VideoStream):
            return path
        with av.open(str(folder / f"{path.stem}.mkv"), "w") as target:
            stream = target.add_stream_from_template(best)
            for packet in source.demux(best):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
        return folder / f"{path.stem}.mkv"


def compare(name: str, videos: Iterator[tuple[Path, list[float], float]]) -> None:
    scores = {detector: Score() for detector in DETECTORS}
    reading = sampling = 0.0
    for path, true, frame in videos:
        for detector, detect in DETECTORS.items():
            scores[detector].add(detect(path), true, frame)
        # Interleaved, so that all see the same machine.
        runs = [[seconds_of(partial(work, path)) for work in works()] for _ in range(REPEATS)]
        without, plain, *cpu = (median(column) for column in zip(*runs, strict=True))
        sampling, reading = sampling + without, reading + plain
        for detector, spent in zip(DETECTORS, cpu, strict=True):
            scores[detector].cpu.append(spent - (without if detector == "ours" else plain))
    for detector, score in scores.items():
        base = sampling if detector == "ours" else reading
        print(
            f"| {name} | {detector} | {score.found} of {score.cuts} | {score.false} | {score.f1:.2f} "
            f"| {sum(score.cpu):.2f} s | {sum(score.cpu) / base:.0%} |",
            flush=True,
        )


def works() -> list[Callable[[Path], object]]:
    return [lambda path: sample(path, cuts=False), read, *DETECTORS.values()]


def main(videos: Path | None = None) -> None:
    print("| clips | detector | found | false | F1 | CPU for cuts | of sampling, of reading |")
    print("|---|---|---|---|---|---|---|")
    for name in SETS:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, clips(Path(folder), name))
    if videos is not None:
        shots = uncut(videos)
        for kind in ("any", "dark", "short", "mixed"):
            with tempfile.TemporaryDirectory() as folder:
                compare(f"joined, {kind}", joined(shots, kind, Path(folder)))
        compare("real", real(videos))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
