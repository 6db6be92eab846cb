import av
import numpy as np
import pytest

from services.ingress.sampling.frame_difference import FrameChange, FrameDifference


def plain(brightness: int, width: int = 64, height: int = 48) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((height, width, 3), brightness, np.uint8), format="rgb24")


def add(difference: FrameDifference, frame: av.VideoFrame, pts: int, *, left_out: bool = False) -> float:
    return difference.add(difference.thumbnail(frame), pts, left_out=left_out)


def watch(difference: FrameDifference, brightnesses: list[int], first: int = 0) -> None:
    for pts, brightness in enumerate(brightnesses, start=first):
        add(difference, plain(brightness), pts)


def test_the_change_from_the_frame_before_is_returned_and_none_for_the_first():
    difference = FrameDifference()
    assert add(difference, plain(50), 0) == 0
    assert add(difference, plain(150), 1) == pytest.approx(100 / 255)


def test_tells_the_sharpest_step_and_how_far_it_stands_out():
    difference = FrameDifference()
    watch(difference, [50, 54, 58, 158, 160])
    change = difference.pop_largest()
    assert (change.before, change.at, change.exact) == (2, 3, True)
    assert change.confidence == pytest.approx(1 - 4 / 100, abs=0.02)


def test_steps_of_one_size_do_not_stand_out():
    difference = FrameDifference()
    watch(difference, [50, 60, 70, 80])
    assert difference.pop_largest().confidence == pytest.approx(0, abs=0.15)


def test_of_equal_changes_the_first_is_reported():
    difference = FrameDifference()
    watch(difference, [50, 60, 70])
    assert difference.pop_largest().at == 1


def test_a_picture_that_does_not_change_has_no_step():
    difference = FrameDifference()
    assert difference.pop_largest() is None
    watch(difference, [50, 50, 50])
    assert difference.pop_largest() is None


def test_each_change_is_reported_once_and_none_is_missed():
    difference = FrameDifference()
    watch(difference, [50, 150])
    assert difference.pop_largest() == FrameChange(0, 1, True, pytest.approx(100 / 255), 1.0)
    watch(difference, [50, 50], first=2)
    assert difference.pop_largest() == FrameChange(1, 2, True, pytest.approx(100 / 255), 1.0)


def test_a_step_over_frames_that_were_left_out_is_not_exact():
    difference = FrameDifference()
    add(difference, plain(50), 0)
    add(difference, plain(150), 5, left_out=True)
    assert difference.pop_largest() == FrameChange(0, 5, False, pytest.approx(100 / 255), 1.0)


def test_pictures_may_change_size_on_the_way():
    difference = FrameDifference()
    add(difference, plain(50), 0)
    add(difference, plain(50, width=320, height=180), 1)
    assert difference.pop_largest() is None
