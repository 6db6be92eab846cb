from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from services.encoder.bundled import clip

CLIP = Path(__file__).parents[2] / "services" / "ingress" / "sources" / "sample_clip.mp4"


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Every frame of the committed clip, a sixteenth of its pixels: int16 [96, 96, 3]."""
    with av.open(str(CLIP)) as container:
        return [
            frame.to_ndarray(format="rgb24")[::4, ::4].astype(np.int16)
            for frame in container.decode(container.streams.video[0])
        ]


def test_the_clip_is_small_and_plays_anywhere():
    assert CLIP.stat().st_size <= 400_000
    with av.open(str(CLIP)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (clip.SIZE, clip.SIZE, clip.RATE)


def test_shots_are_three_to_twelve_seconds_long_and_follow_each_other():
    assert all(3 <= shot.end - shot.start <= 12 for shot in clip.SHOTS)
    assert [shot.end for shot in clip.SHOTS[:-1]] == [shot.start for shot in clip.SHOTS[1:]]
    assert 30 <= clip.SHOTS[-1].end <= 45


def test_the_picture_jumps_at_the_hard_cuts_and_nowhere_else(frames):
    assert len(frames) == clip.SHOTS[-1].end * clip.RATE
    jumps = np.array([np.abs(after - before).mean() for before, after in pairwise(frames)])
    hard = {round(shot.start * clip.RATE) for shot in clip.SHOTS[1:] if not shot.dissolves}
    assert set((np.flatnonzero(jumps > 25) + 1).tolist()) == hard


def test_a_dissolve_goes_evenly_from_one_shot_to_the_next(frames):
    (shot,) = (shot for shot in clip.SHOTS if shot.dissolves)
    first = round(shot.start * clip.RATE)
    last = first + round(clip.DISSOLVE_SECONDS * clip.RATE)
    whole = np.abs(frames[last] - frames[first]).mean()
    steps = [np.abs(frames[index + 1] - frames[index]).mean() for index in range(first, last)]
    assert whole > 25
    assert max(steps) < 0.25 * whole


def test_something_moves_in_every_shot(frames):
    for shot in clip.SHOTS:
        first, second = round(shot.start * clip.RATE) + 13, round(shot.end * clip.RATE) - 13
        moved = np.abs(frames[second] - frames[first]).max(axis=2) > 40
        assert moved.mean() > 0.01, shot


@pytest.mark.parametrize("index", [0, 200, 300, 470, 600, 789, 850, 999])
def test_drawing_it_again_gives_the_same_pictures_but_for_the_codec(frames, index):
    drawn = clip.picture(Fraction(index, clip.RATE))[::4, ::4]
    assert np.abs(frames[index] - drawn).mean() < 4
