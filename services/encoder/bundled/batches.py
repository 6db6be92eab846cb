"""Training batches: pictures, texts, and which text is true of which picture."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from services.encoder.bundled import captions, held_out, pictures, untrained
from services.encoder.bundled.captions import FEATURES, TAGS, Caption
from services.encoder.bundled.scenes import Scene, pose, random_scene, render

_MAX_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Batch:
    # uint8 [pictures, size, size, 3]
    pictures: NDArray[np.uint8]
    texts: list[str]
    # bool [pictures, texts]: whether the text is true of the picture.
    targets: NDArray[np.bool_]
    # bool [pictures, texts]: whether the pair counts in the loss. Of a held-out pair of colour and shape, neither is
    # used with pictures of the other: their target would always be false, and the model would learn that.
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Batches(IterableDataset[Batch]):
    """An endless stream of batches: scenes and negatives (pictures without a scene), all tags and some phrases.

    A fraction `bare` of the scenes has no place: on a plain backdrop only the shape can be learnt.
    """

    seed: int
    scenes: int = 40
    negatives: int = 9
    phrases: int = 21
    bare: float = 0.3

    def __iter__(self) -> Iterator[Batch]:
        random = np.random.default_rng(self.seed)
        while True:
            yield self._draw(random)

    def _draw(self, random: np.random.Generator) -> Batch:
        seen = [_seen_scene(random, self.bare) for _ in range(self.scenes)]
        size = untrained.IMAGE_SIZE
        shown = [pictures.augment(render(scene, time, size), random) for scene, time in seen]
        # Noise is the hardest negative.
        kinds = [*pictures.NEGATIVES.values(), pictures.noise, pictures.noise]
        shown += [kinds[number % len(kinds)](size, random) for number in range(self.negatives)]
        texts = [captions.tag(value) for value in TAGS]
        texts += [_seen_phrase(seen[random.integers(len(seen))][0], random) for _ in range(self.phrases)]
        of_pictures = [scene for scene, _ in seen] + [None] * self.negatives
        return Batch(
            pictures=np.stack(shown),
            texts=[caption.text for caption in texts],
            targets=captions.truths(texts, of_pictures),
            mask=np.array([[_is_in_loss(scene, caption) for caption in texts] for scene in of_pictures]),
        )


def _is_in_loss(scene: Scene | None, caption: Caption) -> bool:
    colour, shape = caption.claims.get("colour"), caption.claims.get("shape")
    return scene is None or not (held_out.is_pair(scene.colour, shape) or held_out.is_pair(colour, scene.shape))


def _seen_scene(random: np.random.Generator, bare: float) -> tuple[Scene, float]:
    """A scene and a time, without held-out combinations."""
    while True:
        scene, time = random_scene(random, held_out.FIRST_SEED), float(random.uniform(0, _MAX_SECONDS))
        if random.random() < bare:
            scene = replace(scene, place=None, weather=None)
        if not held_out.is_pair(scene.colour, scene.shape) and not held_out.is_layout(scene.place, pose(scene, time)):
            return scene, time


def _seen_phrase(scene: Scene, random: np.random.Generator) -> Caption:
    """A phrase about `scene`; half of them have one wrong claim and are true of few scenes or none."""
    while True:
        claims = captions.some_claims(scene, random)
        if random.random() < 0.5:
            name = list(claims)[random.integers(len(claims))]
            claims[name] = FEATURES[name][random.integers(len(FEATURES[name]))]
        if not held_out.is_pair(claims.get("colour"), claims.get("shape")):
            return captions.phrase(claims, random)
