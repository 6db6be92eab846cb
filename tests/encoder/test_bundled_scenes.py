from dataclasses import replace

import numpy as np
import pytest

from services.encoder.bundled import held_out
from services.encoder.bundled.places import PLACES, SHELTERED
from services.encoder.bundled.scenes import MOTIONS, Scene, pose, random_scene, render
from services.encoder.bundled.shapes import COLOURS, SHAPES, TEXTURES
from services.encoder.bundled.weather import WEATHERS

RED_CIRCLE = Scene("beach", "circle", "red", "plain", "day", "drifting", seed=5)
RED = (0.87, 0.08, 0.10)


def redness(picture: np.ndarray) -> np.ndarray:
    """bool [size, size]: where the picture is about as red as the shape."""
    return np.abs(picture / 255 - RED).max(axis=2) < 0.1


def test_the_same_scene_and_time_give_the_same_picture():
    assert np.array_equal(render(RED_CIRCLE, 1.5, 96), render(RED_CIRCLE, 1.5, 96))


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_shape_moves_and_stays_in_the_picture(motion):
    poses = [pose(replace(RED_CIRCLE, motion=motion), time) for time in np.linspace(0, 6, 60)]
    assert np.ptp([(at.x, at.y) for at in poses], axis=0).max() > 0.05
    assert all(at.radius <= at.x <= 1 - at.radius and at.radius <= at.y <= 1 - at.radius for at in poses)


def test_the_shape_is_drawn_where_the_pose_says():
    red = redness(render(RED_CIRCLE, 2.0, 200))
    rows, columns = np.nonzero(red)
    at = pose(RED_CIRCLE, 2.0)
    assert (columns.mean() / 200, rows.mean() / 200) == pytest.approx((at.x, at.y), abs=0.01)
    assert red.mean() == pytest.approx(np.pi * (0.9 * at.radius) ** 2, rel=0.05)


def test_a_picture_of_another_size_shows_the_same():
    small, large = render(RED_CIRCLE, 1.0, 96), render(RED_CIRCLE, 1.0, 384)
    shrunk = large.reshape(96, 4, 96, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 3


@pytest.mark.parametrize("place", PLACES)
def test_places_differ_from_each_other_by_more_than_their_own_layouts_do_in_colour(place):
    def histogram(name: str, seed: int) -> np.ndarray:
        weather = None if name in SHELTERED else "day"
        picture = render(Scene(name, "circle", "red", "plain", weather, "drifting", seed), 0.0, 64)
        counts = np.histogramdd(picture.reshape(-1, 3) // 32, bins=8, range=[(0, 8)] * 3)[0].ravel()
        return np.sqrt(counts / counts.sum())

    own = np.mean([histogram(place, seed) for seed in range(8)], axis=0)
    for other in PLACES:
        if other != place:
            theirs = np.mean([histogram(other, seed) for seed in range(8)], axis=0)
            assert own @ theirs / np.linalg.norm(own) / np.linalg.norm(theirs) < 0.97, other


@pytest.mark.parametrize(
    ("feature", "values"),
    [("shape", SHAPES), ("colour", tuple(COLOURS)), ("texture", TEXTURES), ("weather", WEATHERS)],
)
def test_every_value_of_a_feature_changes_the_picture(feature, values):
    found = [render(replace(RED_CIRCLE, **{feature: value}), 0.0, 64).tobytes() for value in values]
    assert len(set(found)) == len(values)


def test_there_is_weather_out_of_doors_only():
    random = np.random.default_rng(0)
    for scene in (random_scene(random) for _ in range(300)):
        assert (scene.weather is None) == (scene.place in SHELTERED)


def test_a_tenth_of_the_pairs_of_colour_and_shape_is_held_out_and_every_colour_and_shape_remains():
    assert len(held_out.PAIRS) == len(COLOURS) * len(SHAPES) / 10
    assert {colour for colour, _ in held_out.PAIRS} == set(COLOURS)
    assert max(sum(shape == other for _, other in held_out.PAIRS) for shape in SHAPES) <= 1
