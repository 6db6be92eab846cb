"""Scene changes compared with truth and Ray Serve baseline: python -m benchmarks.scene_changes [MODEL [VIDEOS]].

Rendered clips: scenes that move, cut every 1.5, 3 and 6 s, one that dissolves, one that is never cut. VIDEOS is a
directory of clips with a cuts.json, as {"videos": {name: {"hard_cuts": [{"from_first_frame": seconds}]}}}.
"""

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np

from services.decoder.scenes import SceneDetector
from services.encoder import checkpoint, siglip
from services.encoder.bundled.scenes import random_scene, render
from services.encoder.siglip import SiglipEngine
from services.ingress.sampling import LargestChange
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampler import Sampler
from tests.rendering import render as render_video
from tests.rendering import steady

BUNDLED = Path(__file__).parents[1] / "services" / "encoder" / "bundled" / "rendered-scenes"
FRAMES, CHUNK, RATE, SIZE, SECONDS = 16, Fraction(10), 25, 192, 24
CLIPS_EACH = 4


@dataclass(frozen=True, slots=True)
class Event:
    previous: float
    at: float
    cut: LargestChange | None


@dataclass(slots=True)
class Score:
    cuts: int = 0
    found: int = 0
    extras: int = 0
    sampled_errors: list[float] = field(default_factory=list)
    refined_errors: list[float] = field(default_factory=list)

    def add(self, events: Iterable[Event], cuts: list[Fraction], lasting: float) -> None:
        """`lasting` seconds pass from a cut's first changed frame to its last."""
        self.cuts += len(cuts)
        left = list(cuts)
        for event in events:
            within = [cut for cut in left if event.previous < cut + lasting and cut <= event.at]
            if not within:
                self.extras += 1
                continue
            left.remove(within[0])
            self.found += 1
            self.sampled_errors.append(event.at - float(within[0]))
            if event.cut is not None:
                off = float(event.cut.at - within[0])
                self.refined_errors.append(max(0.0, -off, off - lasting))

    def row(self, name: str) -> str:
        errors = ""
        if self.sampled_errors:
            refined = f"{1000 * median(self.refined_errors):.0f} ms" if self.refined_errors else "-"
            errors = f"{1000 * median(self.sampled_errors):.0f} ms | {refined}"
        return f"| {name} | {self.found} of {self.cuts} | {self.extras} | {errors or '- | -'} |"


def events(path: Path, engine: SiglipEngine, *, restarts: bool) -> tuple[list[Event], float]:
    """The scene changes found in a video, and the share of its frames decoded for the cuts alone."""
    size = engine.model.image_size
    out = np.empty((FRAMES, size, size, 3), np.uint8)
    detector = SceneDetector(threshold=0.15, alpha=0.9, restarts=restarts)
    found = []
    limits = SamplingLimits()
    with Sampler(str(path), frames_per_chunk=FRAMES, chunk_duration=CHUNK, image_size=size, limits=limits) as sampler:
        searched = 0
        while (chunk := sampler.next_chunk(out)) is not None:
            embeddings = engine.encode(out).embeddings
            for embedding, time, cut in zip(embeddings, chunk.frame_times, chunk.largest_changes, strict=True):
                seen = detector.process_frame(embedding, float(time))
                if seen.is_event:
                    before = sampler.frames_decoded
                    refined = sampler.refine_cut(cut) if cut is not None else None
                    searched += sampler.frames_decoded - before
                    found.append(Event(seen.previous_seconds or 0.0, float(time), refined))
        return found, searched / max(1.0, float(sampler.duration) * RATE)


def clip(path: Path, random: np.random.Generator, spacing: float | None, dissolve: float = 0.0) -> list[Fraction]:
    """Render random scenes, cut or dissolved every `spacing` seconds; the true cuts."""
    edges = [0.0] if spacing is None else np.arange(0, SECONDS, spacing).tolist()
    # Not where a sample falls, which would flatter the sampled times.
    cuts = [Fraction(round(RATE * (edge + random.uniform(0, 0.5))), RATE) for edge in edges[1:]]
    scenes = [random_scene(random) for _ in edges]

    def draw(index: int, number: int, width: int, height: int) -> np.ndarray:
        time = index / RATE
        shown = render(scenes[number], time, SIZE)
        progress = (time - float(cuts[number - 1])) / dissolve if number and dissolve else 1.0
        if progress >= 1:
            return shown
        return ((1 - progress) * render(scenes[number - 1], time, SIZE) + progress * shown).astype(np.uint8)

    render_video(path, steady(RATE, SECONDS), cuts=cuts, draw=draw, width=SIZE, height=SIZE)
    return cuts


def compare(name: str, videos: list[tuple[Path, list[Fraction]]], engine: SiglipEngine, lasting: float = 0.0) -> None:
    ours, baseline, share = Score(), Score(), 0.0
    for path, cuts in videos:
        found, searched = events(path, engine, restarts=True)
        share = max(share, searched)
        ours.add(found, cuts, lasting)
        baseline.add(events(path, engine, restarts=False)[0], cuts, lasting)
    print(ours.row(name), f"{baseline.found} of {baseline.cuts} | {baseline.extras} | {share:.1%} |", flush=True)


def rendered(
    directory: Path, spacing: float | None, dissolve: float, random: np.random.Generator
) -> list[tuple[Path, list[Fraction]]]:
    paths = [directory / f"{spacing}-{dissolve}-{number}.mp4" for number in range(CLIPS_EACH)]
    return [(path, clip(path, random, spacing, dissolve)) for path in paths]


def main(model: Path = BUNDLED, real: Path | None = None) -> None:
    engine = siglip.load(checkpoint.resolve(str(model), None), device="cpu", precision="float32", torch_threads=0)
    print(
        "| clips | found | false | sampled time late by | refined off by "
        "| baseline found | baseline false | extra decode |"
    )
    print("|---|---|---|---|---|---|---|---|")
    sets = {f"cut every {spacing} s": (spacing, 0.0) for spacing in (1.5, 3.0, 6.0)}
    sets |= {"dissolve of 0.5 s every 6 s": (6.0, 0.5), "motion, no cut": (None, 0.0)}
    for name, (spacing, dissolve) in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            videos = rendered(Path(folder), spacing, dissolve, np.random.default_rng(7))
            compare(name, videos, engine, lasting=dissolve)
    if real is not None:
        for name, truth in json.loads((real / "cuts.json").read_text())["videos"].items():
            cuts = [Fraction(str(cut["from_first_frame"])) for cut in truth["hard_cuts"]]
            compare(name, [(real / name, cuts)], engine)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
