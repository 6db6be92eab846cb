"""Generates texts about scenes, and decides which are true of which scene.

A text claims something about some of a scene's features, and is true of a scene that has them all. Texts with the same
claims are worded in many ways; what moves how is not claimed, since no single picture shows it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.encoder.bundled.places import PLACES, SHELTERED
from services.encoder.bundled.scenes import Scene
from services.encoder.bundled.shapes import COLOURS, SHAPES, TEXTURES
from services.encoder.bundled.weather import WEATHERS

# Every feature that texts speak of, with all its values.
FEATURES: dict[str, tuple[str, ...]] = {
    "place": PLACES,
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "weather": WEATHERS,
}
TAGS = tuple(value for values in FEATURES.values() for value in values)

_NO_VALUE = -1
# Common zero-shot prompt templates.
TEMPLATES = ("{}", "a picture of {}", "a photo of {}", "This is a photo of {}.")
_MOVING = ("moving", "drifting", "floating")

_SETTINGS = {
    "beach": ("over", "a beach"),
    "forest": ("in", "a forest"),
    "city": ("over", "a city"),
    "mountains": ("over", "mountains"),
    "desert": ("over", "a desert"),
    "ocean": ("over", "the ocean"),
    "meadow": ("over", "a meadow"),
    "road": ("over", "a road"),
    "kitchen": ("in", "a kitchen"),
    "library": ("in", "a library"),
    "space": ("in", "space"),
    "cave": ("in", "a cave"),
}
_SKIES = {
    "day": "by day",
    "sunset": "at sunset",
    "night": "at night",
    "fog": "in fog",
    "rain": "in rain",
    "snow": "in snow",
}


@dataclass(frozen=True, slots=True)
class Caption:
    """`text` is true of a scene that has, for every feature in `claims`, that value."""

    text: str
    claims: dict[str, str]


def truths(captions: Sequence[Caption], scenes: Sequence[Scene | None]) -> NDArray[np.bool_]:
    """bool [scenes, captions]: whether the caption is true of the scene. None is a picture of no scene."""
    claimed = _table([caption.claims for caption in captions])
    seen = _table([_features(scene) if scene else {} for scene in scenes])
    fits = (claimed[np.newaxis] == _NO_VALUE) | (claimed[np.newaxis] == seen[:, np.newaxis])
    return np.asarray(fits.all(axis=2))


def _features(scene: Scene) -> dict[str, str]:
    return {name: value for name in FEATURES if (value := getattr(scene, name)) is not None}


def _table(rows: Iterable[dict[str, str]]) -> NDArray[np.int64]:
    """int64 [rows, features]: the number of each value, or _NO_VALUE."""
    return np.array(
        [[values.index(row[name]) if name in row else _NO_VALUE for name, values in FEATURES.items()] for row in rows]
    )


def some_claims(scene: Scene, random: np.random.Generator) -> dict[str, str]:
    """Between one and all of the scene's features."""
    features = _features(scene)
    chosen = random.permutation(list(features))[: random.integers(1, len(features) + 1)].tolist()
    return {name: features[name] for name in features if name in chosen}


def tag(value: str) -> Caption:
    """The bare label, such as "beach" or "red"."""
    return Caption(value, {next(name for name, values in FEATURES.items() if value in values): value})


def sentence(claims: dict[str, str], moving: str = _MOVING[0]) -> Caption:
    """A whole sentence, such as "A red circle moving over a beach at night"; it must claim shape and place."""
    preposition, place = _SETTINGS[claims["place"]]
    words = [_with_article(_thing(claims)), moving, preposition, place, *_sky(claims)]
    text = " ".join(words)
    return Caption(text[0].upper() + text[1:], claims)


def phrase(claims: dict[str, str], random: np.random.Generator) -> Caption:
    """One of the many wordings of `claims`, of which there is at least one."""
    if len(claims) == 1 and random.random() < 0.5:
        text = next(iter(claims.values()))
    elif claims.keys() >= {"shape", "place"} and random.random() < 0.7:
        text = sentence(claims, _MOVING[random.integers(len(_MOVING))]).text
    else:
        text = _loose(claims, random)
    if random.random() < 0.5:
        text = TEMPLATES[random.integers(len(TEMPLATES))].format(text)
    return Caption(text, claims)


def _loose(claims: dict[str, str], random: np.random.Generator) -> str:
    words = []
    if claims.keys() & {"texture", "colour", "shape"}:
        words.append(_thing(claims) if random.random() < 0.4 else _with_article(_thing(claims)))
    if "place" in claims:
        preposition, place = _SETTINGS[claims["place"]]
        words += [preposition, place] if words else [place]
    return " ".join([*words, *_sky(claims)])


def _thing(claims: dict[str, str]) -> str:
    named = [claims.get("texture"), claims.get("colour"), claims.get("shape", "shape")]
    return " ".join(word for word in named if word)


def _sky(claims: dict[str, str]) -> list[str]:
    return [_SKIES[claims["weather"]]] if "weather" in claims else []


def _with_article(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def descriptions() -> tuple[Caption, ...]:
    """The sentences of textbanks/rendered: six for every place, three of them with the weather or a texture."""
    found = []
    for number, place in enumerate(PLACES):
        for turn in range(6):
            claims = {
                "place": place,
                "colour": FEATURES["colour"][(2 * number + 4 * turn + turn // 3) % len(COLOURS)],
                "shape": SHAPES[(3 * number + turn) % len(SHAPES)],
            }
            if turn % 2 and place in SHELTERED:
                claims["texture"] = TEXTURES[(number + turn) % len(TEXTURES)]
            elif turn % 2:
                claims["weather"] = WEATHERS[(number + turn // 2) % len(WEATHERS)]
            found.append(sentence(claims))
    return tuple(found)
