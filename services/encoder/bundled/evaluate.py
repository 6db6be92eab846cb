"""Evaluates a checkpoint on held-out scenes: `python -m services.encoder.bundled.evaluate [DIRECTORY]`.

Pictures are rendered at the size of a video and shrunk, texts are labels without a template, and the engine is that of
the service.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.encoder import checkpoint, siglip
from services.encoder.bundled import held_out, pictures
from services.encoder.bundled.captions import FEATURES, TAGS
from services.encoder.bundled.scenes import Scene, pose, random_scene, render
from services.encoder.siglip import SiglipEngine
from videoanalysis.scores import Calibration

DIRECTORY = Path(__file__).parent / "rendered-scenes"
_VIDEO_SIZE = 384
# Nearly as good and four times faster.
_SMALL_SIZE = 192
_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Shown:
    """`picture` is of `scene`: uint8 [size, size, 3]."""

    scene: Scene
    picture: NDArray[np.uint8]


def seen_combinations(random: np.random.Generator) -> Iterator[tuple[Scene, float]]:
    """New scenes, and a time in each, whose colour, shape and layout all occur in training."""
    for scene, time in _new_scenes(random):
        if not held_out.is_pair(scene.colour, scene.shape) and not held_out.is_layout(scene.place, pose(scene, time)):
            yield scene, time


def held_out_pairs(random: np.random.Generator) -> Iterator[tuple[Scene, float]]:
    """The shape has a colour in which training never showed it."""
    for scene, time in _new_scenes(random):
        colour, shape = held_out.PAIRS[random.integers(len(held_out.PAIRS))]
        yield replace(scene, colour=colour, shape=shape), time


def held_out_layouts(random: np.random.Generator) -> Iterator[tuple[Scene, float]]:
    """The shape is in a quarter of the place where training never showed it."""
    for scene, time in _new_scenes(random):
        if not held_out.is_pair(scene.colour, scene.shape) and held_out.is_layout(scene.place, pose(scene, time)):
            yield scene, time


HELD_OUT: dict[str, Callable[[np.random.Generator], Iterator[tuple[Scene, float]]]] = {
    "new scenes of seen labels": seen_combinations,
    "unseen pairs of colour and shape": held_out_pairs,
    "unseen layouts": held_out_layouts,
}


def show(
    scenes: Iterator[tuple[Scene, float]], count: int, image_size: int, drawn_at: int = _VIDEO_SIZE
) -> list[Shown]:
    """The first `count` of `scenes`, drawn at `drawn_at` and shrunk to `image_size`."""
    return [Shown(scene, shrunk(render(scene, time, drawn_at), image_size)) for scene, time in islice(scenes, count)]


def shrunk(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def accuracy(engine: SiglipEngine, shown: list[Shown]) -> dict[str, float]:
    """Top-1 accuracy of each feature; scenes without weather do not count for weather."""
    embeddings = embed(engine, [one.picture for one in shown])
    found = {}
    for feature, values in FEATURES.items():
        nearest = (embeddings @ engine.encode_texts(list(values)).T).argmax(axis=1).tolist()
        truths = [getattr(one.scene, feature) for one in shown]
        right = [values[n] == truth for n, truth in zip(nearest, truths, strict=True) if truth is not None]
        found[feature] = float(np.mean(right))
    return found


def highest_probability(engine: SiglipEngine, of_nothing: list[NDArray[np.uint8]]) -> float:
    """The highest probability that any tag has on any of the pictures."""
    cosines = embed(engine, of_nothing) @ engine.encode_texts(list(TAGS)).T
    return Calibration(engine.model.logit_scale, engine.model.logit_bias).probability(float(cosines.max()))


def distances(engine: SiglipEngine, random: np.random.Generator, count: int) -> tuple[float, float]:
    """Cosine distances as scene detection sees them: the 99th percentile between two times of one scene, and the 1st
    between scenes of different places."""
    scenes = [scene for scene, _ in islice(_new_scenes(random), count)]
    size = engine.model.image_size
    early, late = (
        embed(
            engine, [shrunk(render(scene, float(random.uniform(0, _SECONDS)), _SMALL_SIZE), size) for scene in scenes]
        )
        for _ in range(2)
    )
    between = 1 - early @ late.T
    elsewhere = np.array([[one.place != other.place for other in scenes] for one in scenes])
    return float(np.percentile(np.diag(between), 99)), float(np.percentile(between[elsewhere], 1))


def embed(engine: SiglipEngine, shown: list[NDArray[np.uint8]], batch: int = 32) -> NDArray[np.float32]:
    """float32 [pictures, embedding_dim], unit rows"""
    starts = range(0, len(shown), batch)
    return np.concatenate([engine.encode(np.stack(shown[start : start + batch])).embeddings for start in starts])


def _new_scenes(random: np.random.Generator) -> Iterator[tuple[Scene, float]]:
    while True:
        scene = random_scene(random)
        yield replace(scene, seed=scene.seed + held_out.FIRST_SEED), float(random.uniform(0, _SECONDS))


def figures(engine: SiglipEngine, count: int) -> str:
    """A table in Markdown, from `count` pictures a line."""
    size = engine.model.image_size
    random = np.random.default_rng(2024)
    lines = ["| top-1 | " + " | ".join(FEATURES) + " |", "|---|" + "---|" * len(FEATURES)]
    for name, scenes in HELD_OUT.items():
        found = accuracy(engine, show(scenes(random), count, size))
        lines.append(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in found.values()) + " |")
    lines += ["", "| highest probability of any tag | |", "|---|---|"]
    for name, draw in pictures.NEGATIVES.items():
        highest = highest_probability(engine, [draw(size, random) for _ in range(count)])
        lines.append(f"| {name} | {highest:.3f} |")
    within, between = distances(engine, random, count)
    lines += ["", "| cosine distance | |", "|---|---|"]
    lines.append(f"| two times of one scene, 99th percentile | {within:.3f} |")
    lines.append(f"| two scenes of different places, 1st percentile | {between:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    parser = argparse.ArgumentParser(description="Evaluate the bundled model on scenes that it was not trained on.")
    parser.add_argument("directory", type=Path, nargs="?", default=DIRECTORY)
    parser.add_argument("--pictures", type=int, default=1000, help="of each kind")
    options = parser.parse_args()
    found = checkpoint.resolve(str(options.directory), None)
    engine = siglip.load(found, device="cpu", precision="float32", torch_threads=0)
    text = f"`{found.digest}`, {options.pictures} pictures a line\n\n{figures(engine, options.pictures)}"
    print(text)
    (options.directory / "FIGURES.md").write_text(text)


if __name__ == "__main__":
    main()
