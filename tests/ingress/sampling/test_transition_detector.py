from collections.abc import Iterable

import pytest

from services.ingress.sampling.transition_detector import FoundTransition, TransitionDetector
from tests.ingress.sampling.moving_pictures import RATE, Picture, black, blend, flash, pan, play, shake, shot

MARK = 3  # frames between two pictures that are compared


def transitions(pictures: Iterable[Picture]) -> list[FoundTransition]:
    """One tick a frame."""
    detector = TransitionDetector(RATE)
    for tick, picture in enumerate(pictures):
        detector.add(tick, picture)
    detector.finish()
    return detector.pop(None)


@pytest.mark.parametrize("frames", [12, 25, 40])
@pytest.mark.parametrize("seed", [1, 5, 9])
def test_a_dissolve_is_found_with_its_times(frames: int, seed: int):
    found = transitions(blend(shot(seed), shot(seed + 1), 40, frames))
    assert found
    for one in found:
        assert one.kind == "dissolve"
        assert one.start == pytest.approx(40, abs=2 * MARK)
        assert one.end == pytest.approx(40 + frames, abs=2 * MARK)


@pytest.mark.parametrize("frames", [12, 25, 40])
def test_fades_to_and_from_black_are_found(frames: int):
    out, back = blend(shot(1), black, 40, frames), blend(black, shot(2), 40, frames)
    for pictures in (out, back):
        found = transitions(pictures)
        assert found
        assert {one.kind for one in found} == {"fade"}
        assert found[0].end == pytest.approx(40 + frames, abs=2 * MARK + frames / 5)


def test_cuts_flashes_and_motion_are_no_transitions():
    assert transitions(play(*((shot(k), 20) for k in range(10)))) == []
    assert transitions(play((shot(1), 40), (flash(shot(1)), 2), (shot(1), 40))) == []
    for speed in (1, 3, 8):
        assert transitions(pan(600 // speed, speed, seed=speed)) == []
    assert transitions(shake(500, 0.5, seed=3)) == []
