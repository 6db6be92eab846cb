from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.decoder.scenes import FrameScore, SceneDetector, SceneState
from tests.decoder.samples import unit_rows

FRAMES_PER_SECOND = 1.6


def detect(
    frames: np.ndarray, times: list[float], state: SceneState | None = None, **changes: object
) -> tuple[list[FrameScore], SceneState]:
    detector = SceneDetector(**{"threshold": 0.15, "alpha": 0.9, "restarts": True, "state": state} | changes)
    scores = [detector.process_frame(frame, time) for frame, time in zip(frames, times, strict=True)]
    return scores, detector.state


def through_the_wire(state: SceneState) -> SceneState:
    return SceneState(
        np.frombuffer(state.ema.astype("<f4").tobytes(), "<f4"), state.last_event_seconds, state.last_frame_seconds
    )


def evenly(count: int) -> list[float]:
    return [i / FRAMES_PER_SECOND for i in range(count)]


def events(scores: list[FrameScore]) -> list[int]:
    return [i for i, seen in enumerate(scores) if seen.is_event]


@st.composite
def videos(draw):
    """Frames that wander and jump, with times that never decrease."""
    count = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    jump = draw(st.sampled_from([0.05, 0.3, 2.0]))
    walk = np.cumsum(generator.standard_normal((count, 24)) * jump, axis=0) + generator.standard_normal(24)
    frames = (walk / np.linalg.norm(walk, axis=1, keepdims=True)).astype(np.float32)
    times = np.cumsum(draw(st.lists(st.sampled_from([0.0, 0.3, 0.625, 1.0]), min_size=count, max_size=count)))
    return frames, times.tolist()


@given(
    video=videos(),
    cuts=st.sets(st.integers(1, 39)),
    restarts=st.booleans(),
    threshold=st.sampled_from([0.02, 0.15, 0.6]),
    alpha=st.sampled_from([0.1, 0.5, 0.9]),
)
@settings(max_examples=150)
def test_any_chunking_gives_exactly_what_one_chunk_gives(video, cuts, restarts, threshold, alpha):
    frames, times = video
    options = {"restarts": restarts, "threshold": threshold, "alpha": alpha}
    whole, final = detect(frames, times, **options)
    edges = sorted({0, len(frames), *(cut for cut in cuts if cut < len(frames))})
    pieces, state = [], None
    for start, end in pairwise(edges):
        scores, state = detect(frames[start:end].copy(), times[start:end], state, **options)
        state = through_the_wire(state)
        pieces += scores
    assert pieces == whole
    assert state.ema.tobytes() == final.ema.tobytes()
    assert (state.last_event_seconds, state.last_frame_seconds) == (final.last_event_seconds, final.last_frame_seconds)


def reference(frames, times, *, threshold, alpha, restarts):
    """The formula in float64, frame by frame: scores and the indices of the events."""
    ema, last_event = None, -np.inf
    scores, found = [], []
    for i, (frame, time) in enumerate(zip(frames.astype(np.float64), times, strict=True)):
        if ema is None:
            ema = frame
        scores.append(max(0.0, 1.0 - frame @ ema))
        quiet = restarts and time - last_event < 1.0
        if scores[-1] >= threshold and not quiet:
            found.append(i)
            last_event = time
            if restarts:
                ema = frame
                continue
        ema = alpha * ema + (1 - alpha) * frame
        ema = ema / np.linalg.norm(ema)
    return scores, found


@given(video=videos(), restarts=st.booleans(), alpha=st.sampled_from([0.3, 0.9]))
@settings(max_examples=150)
def test_scores_and_events_are_those_of_the_formula_in_float64(video, restarts, alpha):
    frames, times = video
    # The threshold lies in the widest gap between the scores: rounding moves no score across it.
    raw, _ = reference(frames, times, threshold=3.0, alpha=alpha, restarts=False)
    steps = np.sort([*raw, 0.0, 0.5])
    widest = int(np.argmax(np.diff(steps)))
    threshold = float(steps[widest] + steps[widest + 1]) / 2
    expected, expected_events = reference(frames, times, threshold=threshold, alpha=alpha, restarts=restarts)
    assume(min(abs(score - threshold) for score in expected) > 1e-5)
    scores, _ = detect(frames, times, threshold=threshold, alpha=alpha, restarts=restarts)
    np.testing.assert_allclose([seen.score for seen in scores], expected, atol=2e-6)
    assert events(scores) == expected_events


def test_every_frame_reports_one_cut_many_times_as_the_original():
    first, second = np.eye(2, 8, dtype=np.float32)
    frames = np.stack([first] * 8 + [second] * 24)
    scores, _ = detect(frames, evenly(32), restarts=False)
    # The original: ema = frames[0]; score = 1 - frame·ema; ema = norm(0.9 ema + 0.1 frame); event at score >= 0.15.
    ema, expected = np.eye(1, 8)[0], []
    for frame in frames.astype(np.float64):
        expected.append(1 - frame @ ema)
        ema = 0.9 * ema + 0.1 * frame
        ema /= np.linalg.norm(ema)
    np.testing.assert_allclose([seen.score for seen in scores], np.maximum(expected, 0), atol=1e-6)
    assert events(scores) == [i for i, score in enumerate(expected) if score >= 0.15]
    assert len(events(scores)) > 5


@pytest.mark.parametrize("seconds_apart", [1.5, 3.0, 6.0])
@pytest.mark.parametrize("seed", range(5))
def test_each_cut_is_one_event_without_extras(seconds_apart, seed):
    generator = np.random.default_rng(seed)
    times = evenly(96)
    scene_of_frame = [int(time // seconds_apart) for time in times]
    scenes = unit_rows(scene_of_frame[-1] + 1, 512, seed)
    noisy = scenes[scene_of_frame] + generator.standard_normal((96, 512)) * 0.2 / np.sqrt(512)
    frames = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    scores, _ = detect(frames, times)
    cuts = [i for i in range(1, 96) if scene_of_frame[i] != scene_of_frame[i - 1]]
    assert events(scores) == cuts
    assert [scores[i].previous_seconds for i in cuts] == [times[i - 1] for i in cuts]


def test_a_cut_under_a_second_after_another_is_no_event_and_does_not_restart():
    a, b, c = np.eye(3, 8, dtype=np.float32)
    scores, state = detect(np.stack([a, b, c, c]), [0.0, 2.0, 2.9, 3.0])
    assert events(scores) == [1, 3]
    assert [round(seen.score, 6) for seen in scores[:3]] == [0.0, 1.0, 1.0]
    # At 2.9 s the average of b took c in; it was not replaced by it.
    assert scores[3].score == pytest.approx(1 - 0.1 / np.hypot(0.9, 0.1))
    assert state.last_event_seconds == 3.0
    np.testing.assert_array_equal(state.ema, c)


def test_an_event_exactly_one_second_after_another_counts():
    a, b = np.eye(2, 8, dtype=np.float32)
    scores, _ = detect(np.stack([a, b, a]), [0.0, 2.0, 3.0])
    assert events(scores) == [1, 2]


def test_a_score_at_the_threshold_is_an_event():
    a, b = np.eye(2, 8, dtype=np.float32)
    scores, _ = detect(np.stack([a, b]), [0.0, 1.0], threshold=1.0)
    assert events(scores) == [1]


def test_the_first_frame_scores_zero_and_becomes_the_average():
    frame = unit_rows(1)[0]
    scores, state = detect(frame[np.newaxis], [0.25])
    assert scores == [FrameScore(0.0, False, None)]
    np.testing.assert_array_equal(state.ema, frame)
    assert (state.last_event_seconds, state.last_frame_seconds) == (None, 0.25)


def test_the_frame_before_an_event_may_lie_in_the_chunk_before():
    a, b = np.eye(2, 8, dtype=np.float32)
    _, state = detect(np.stack([a, a]), [9.0, 9.5])
    scores, _ = detect(b[np.newaxis], [10.0], through_the_wire(state))
    assert scores == [FrameScore(1.0, True, 9.5)]


@pytest.mark.parametrize("restarts", [True, False])
def test_opposite_frames_leave_a_finite_average(restarts):
    frame = np.eye(1, 8, dtype=np.float32)[0]
    scores, state = detect(np.stack([frame, -frame]), [0.0, 0.5], alpha=0.5, restarts=restarts, threshold=2.0)
    assert scores[1].score == 2.0
    np.testing.assert_array_equal(state.ema, -frame)


def test_a_score_is_never_negative():
    frame = unit_rows(1)[0] * np.float32(1.0005)
    scores, _ = detect(np.stack([frame, frame]), [0.0, 0.5])
    assert scores[1].score == 0.0
