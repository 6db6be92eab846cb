"""Frames that are encoded with `reuse_difference`, and what it costs in likeness: python -m benchmarks.reuse [VIDEO …]

Embeddings by the bundled model, compared with those of every sampled frame. Without arguments, a rendered slideshow, 20
slides that are each still for six seconds, and a fixed camera where the shared videos are.
"""

import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import shared
from services.encoder import checkpoint, siglip
from services.encoder.bundled.scenes import random_scene, render
from services.encoder.siglip import SiglipEngine
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampler import Sampler
from tests.rendering import render as render_video
from tests.rendering import steady

_BUNDLED = Path(__file__).parents[1] / "services" / "encoder" / "bundled" / "rendered-scenes"
_FRAMES, _CHUNK = 16, Fraction(10)
_DIFFERENCES = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05)
_SLIDES, _SLIDE_SECONDS, _RATE, _SIZE = 20, 6, 5, 192


def embedded(path: Path, engine: SiglipEngine, reuse_difference: float) -> tuple[int, NDArray[np.float32]]:
    """How many frames were encoded, and the embedding for each wanted time."""
    size = engine.model.image_size
    out = np.empty((_FRAMES, size, size, 3), np.uint8)
    encoded, embeddings = 0, []
    with Sampler(
        str(path),
        frames_per_chunk=_FRAMES,
        chunk_duration=_CHUNK,
        image_size=size,
        limits=SamplingLimits(),
        reuse_difference=reuse_difference,
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            encoded += chunk.frame_count
            embeddings.append(engine.encode(out[: chunk.frame_count]).embeddings[list(chunk.frame_indices)])
    return encoded, np.concatenate(embeddings)


def compare(name: str, path: Path, engine: SiglipEngine) -> None:
    exact: NDArray[np.float32] | None = None
    for reuse_difference in _DIFFERENCES:
        encoded, embeddings = embedded(path, engine, reuse_difference)
        exact = embeddings if exact is None else exact
        cosines = (exact * embeddings).sum(axis=1)
        print(
            f"| {name} | {reuse_difference:g} | {encoded} of {len(exact)} | {len(exact) / encoded:.1f} "
            f"| {cosines.min():.3f} | {cosines.mean():.4f} |",
            flush=True,
        )


def slideshow(path: Path) -> Path:
    random = np.random.default_rng(3)
    slides = [render(random_scene(random), 0.0, _SIZE) for _ in range(_SLIDES)]
    times = steady(_RATE, _SLIDES * _SLIDE_SECONDS)
    per_slide = _SLIDE_SECONDS * _RATE
    return render_video(path, times, draw=lambda index, *_: slides[index // per_slide], width=_SIZE, height=_SIZE)


def main() -> None:
    engine = siglip.load(checkpoint.resolve(str(_BUNDLED), None), device="cpu", precision="float32", torch_threads=0)
    print("| clip | reuse_difference | frames encoded | fewer by | worst cosine | mean cosine |")
    print("|---|---|---|---|---|---|")
    for path in map(Path, sys.argv[1:]):
        compare(path.name, path, engine)
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) == 1:
            compare("slideshow", slideshow(Path(folder) / "slideshow.mp4"), engine)
            for path in shared("intel_bottle-detection.mp4"):
                compare(path.name, path, engine)


if __name__ == "__main__":
    main()
