from collections.abc import Iterable, Iterator

import pytest

from services.ingress.sampling.cut_detector import CONTEXT_SECONDS, CutDetector, FoundCut
from services.ingress.sampling.frame_difference import difference
from tests.ingress.sampling.moving_pictures import (
    RATE,
    Picture,
    black,
    blend,
    clouds,
    dark,
    flash,
    jerks,
    mixture,
    pan,
    play,
    shake,
    shot,
    with_bars,
)


def with_changes(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, float]]:
    before: Picture | None = None
    for picture in pictures:
        yield picture, 0.0 if before is None else difference(picture, before)
        before = picture


def found(pictures: Iterable[Picture], first: int = 0) -> list[FoundCut]:
    """One tick a frame."""
    detector = CutDetector(RATE)
    for tick, (picture, change) in enumerate(with_changes(pictures), start=first):
        detector.add(tick, picture, change, left_out=False)
    detector.finish()
    return detector.pop(None)


def cuts(pictures: Iterable[Picture]) -> list[int]:
    return [cut.at for cut in found(pictures)]


def test_a_cut_is_at_the_first_frame_of_the_new_shot():
    (cut,) = found(play((shot(1), 40), (shot(2), 40)))
    assert (cut.before, cut.at, cut.exact) == (39, 40, True)
    assert 18 / 255 < cut.strength < 1


@pytest.mark.parametrize("seed", range(10))
def test_every_cut_of_many_is_found_and_nothing_else(seed: int):
    lengths = [10 + 7 * (seed + k) % 30 for k in range(8)]
    edges = [sum(lengths[:k]) for k in range(1, 8)]
    assert cuts(play(*((shot(100 * seed + k), length) for k, length in enumerate(lengths)))) == edges


def test_a_cut_in_the_last_frames_is_found():
    assert cuts(play((shot(1), 40), (shot(2), 1))) == [40]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_flash_is_no_cut(frames: int):
    assert cuts(play((shot(1), 40), (flash(shot(1)), frames), (shot(1), 40))) == []


@pytest.mark.parametrize("frames", [1, 2, 5, 12, 40])
def test_black_between_shots_is_one_cut_at_the_first_picture_of_the_new_shot(frames: int):
    assert cuts(play((shot(1), 40), (black, frames), (shot(2), 40))) == [40 + frames]


@pytest.mark.parametrize("frames", [1, 2, 5, 12, 40])
def test_black_within_a_shot_is_no_cut(frames: int):
    assert cuts(play((shot(1), 40), (black, frames), (shot(1), 40))) == []


def test_black_before_the_first_shot_is_no_cut():
    assert cuts(play((black, 20), (shot(1), 40))) == []


@pytest.mark.parametrize("frames", [5, 12, 25, 50])
def test_a_dissolve_or_fade_is_no_cut(frames: int):
    assert cuts(blend(shot(1), shot(2), 40, frames)) == []
    assert cuts(blend(shot(1), black, 40, frames)) == []
    assert cuts(blend(black, shot(1), 40, frames)) == []


def test_a_fade_to_black_over_one_frame_is_no_cut():
    assert cuts(play((shot(1), 40), (dark(shot(1), 0.5), 1), (black, 40))) == []


@pytest.mark.parametrize("speed", [1, 3, 8, 16])
def test_a_moving_camera_is_no_cut(speed: int):
    assert cuts(pan(600 // speed, speed, seed=speed)) == []


@pytest.mark.parametrize("size", [0.2, 0.5, 1.0])
def test_a_camera_held_by_hand_makes_no_cut(size: float):
    assert cuts(shake(500, size, seed=3)) == []


def test_of_changes_within_a_tenth_of_a_second_the_strongest_is_the_cut():
    assert len(cuts(play((shot(1), 40), (shot(2), 2), (shot(3), 40)))) == 1


@pytest.mark.parametrize("frames", [3, 4, 5, 6])
def test_shots_of_a_few_frames_have_their_cuts(frames: int):
    assert cuts(play((shot(1), 40), (shot(2), frames), (shot(3), frames), (shot(4), 40))) == [
        40,
        40 + frames,
        40 + 2 * frames,
    ]


@pytest.mark.parametrize("share", [0.15, 0.2, 0.3])
def test_a_cut_between_dark_shots_is_found(share: float):
    assert cuts(play((dark(shot(1), share), 40), (dark(shot(2), share), 40))) == [40]


def test_a_cut_between_shots_of_little_contrast_is_found():
    assert cuts(play((clouds(1), 40), (clouds(2), 40))) == [40]


@pytest.mark.parametrize("share", [0.4, 0.5, 0.6])
def test_a_frame_that_mixes_the_two_shots_is_one_of_the_frames_at_the_cut(share: float):
    (cut,) = cuts(play((shot(1), 40), (mixture(shot(1), shot(2), share), 1), (shot(2), 40)))
    assert cut in {40, 41}


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_light_that_is_switched_is_no_cut(share: float):
    assert cuts(play((shot(1), 40), (dark(shot(1), share), 40))) == []
    assert cuts(play((dark(shot(1), share), 40), (shot(1), 40))) == []


def test_a_flash_in_two_steps_is_no_cut():
    dim = mixture(shot(1), flash(shot(1)), 0.3)
    assert cuts(play((shot(1), 40), (dim, 1), (flash(shot(1)), 1), (shot(1), 40))) == []


@pytest.mark.parametrize("rows", [4, 8])
def test_black_bars_are_no_part_of_the_pictures(rows: int):
    before, after = (with_bars(dark(shot(seed), 0.4), rows) for seed in (1, 2))
    assert cuts(play((before, 40), (after, 40))) == [40]


@pytest.mark.parametrize("seed", range(5))
def test_motion_in_jerks_is_no_cut(seed: int):
    assert cuts(jerks(100, seed)) == []


def test_a_cut_over_frames_that_were_left_out_is_not_exact():
    detector = CutDetector(RATE)
    pictures = play((shot(1), 40), (shot(2), 40))[1::2]
    for place, (picture, change) in enumerate(with_changes(pictures)):
        detector.add(2 * place + 1, picture, change, left_out=True)
    detector.finish()
    (cut,) = detector.pop(None)
    assert (cut.before, cut.at, cut.exact) == (39, 41, False)


def test_a_detector_that_starts_later_finds_the_same():
    pictures = play(*((shot(k), 7 + 11 * k % 23) for k in range(30)))
    whole = found(pictures)
    for first in range(0, 200, 17):
        later = found(pictures[first:], first)
        known_from = first + CONTEXT_SECONDS * RATE
        assert [cut for cut in later if cut.at >= known_from] == [cut for cut in whole if cut.at >= known_from]


def test_cuts_before_a_settled_time_are_known_and_returned_once():
    pictures = play(*((shot(k), 20) for k in range(8)))
    whole = [cut.at for cut in found(pictures)]
    detector = CutDetector(RATE)
    returned: list[int] = []
    for tick, (picture, change) in enumerate(with_changes(pictures)):
        detector.add(tick, picture, change, left_out=False)
        if detector.settled is not None:
            returned += [cut.at for cut in detector.pop(detector.settled)]
            assert returned == [cut for cut in whole if cut < detector.settled]
    detector.finish()
    assert returned + [cut.at for cut in detector.pop(None)] == whole
