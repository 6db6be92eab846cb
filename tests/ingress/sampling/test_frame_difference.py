import av
import numpy as np
import pytest

from services.ingress.sampling.frame_difference import FrameDifference, Step


def plain(brightness: int, width: int = 64, height: int = 48) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((height, width, 3), brightness, np.uint8), format="rgb24")


def watch(steps: FrameDifference, brightnesses: list[int], first: int = 0) -> None:
    for pts, brightness in enumerate(brightnesses, start=first):
        steps.see(plain(brightness), pts, left_out=False)


def test_tells_the_sharpest_step_and_how_far_it_stands_out():
    steps = FrameDifference()
    watch(steps, [50, 54, 58, 158, 160])
    step = steps.take()
    assert (step.before, step.at, step.exact) == (2, 3, True)
    assert step.confidence == pytest.approx(1 - 4 / 100, abs=0.02)


def test_steps_of_one_size_do_not_stand_out():
    steps = FrameDifference()
    watch(steps, [50, 60, 70, 80])
    assert steps.take().confidence == pytest.approx(0, abs=0.15)


def test_of_equal_steps_the_first_is_told():
    steps = FrameDifference()
    watch(steps, [50, 60, 70])
    assert steps.take().at == 1


def test_a_picture_that_does_not_change_has_no_step():
    steps = FrameDifference()
    assert steps.take() is None
    watch(steps, [50, 50, 50])
    assert steps.take() is None


def test_each_step_is_told_once_and_none_between_two_questions_is_lost():
    steps = FrameDifference()
    watch(steps, [50, 150])
    assert steps.take() == Step(0, 1, True, 1.0)
    watch(steps, [50, 50], first=2)
    assert steps.take() == Step(1, 2, True, 1.0)


def test_a_step_over_frames_that_were_left_out_is_not_exact():
    steps = FrameDifference()
    steps.see(plain(50), 0, left_out=False)
    steps.see(plain(150), 5, left_out=True)
    assert steps.take() == Step(0, 5, False, 1.0)


def test_pictures_may_change_size_on_the_way():
    steps = FrameDifference()
    steps.see(plain(50), 0, left_out=False)
    steps.see(plain(50, width=320, height=180), 1, left_out=False)
    assert steps.take() is None
