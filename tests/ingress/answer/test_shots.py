from fractions import Fraction

from services.ingress.answer.shots import SceneEnd, Shots, nearest_cut
from services.ingress.sampling import Cut, SampledChunk, Transition
from videoanalysis.v1 import analysis_pb2 as pb
from videoanalysis.v1.decoder_pb2 import SceneChange


def cut(time: float) -> Cut:
    return Cut(Fraction(time), Fraction(time) - Fraction(1, 25), 0.25, exact=True)


def chunk(index: int, *cuts: float, transitions: tuple[Transition, ...] = ()) -> SampledChunk:
    """Two seconds, sampled every half second."""
    start = Fraction(2 * index)
    times = tuple(start + Fraction(i, 2) for i in range(4))
    return SampledChunk(index, start, Fraction(2), times, (0, 1, 2, 3), (None,) * 4, tuple(map(cut, cuts)), transitions)


def times(sampled: SampledChunk) -> tuple[list[float], list[float]]:
    """Of its frames, and of its cuts."""
    return [float(time) for time in sampled.frame_times], [float(cut.time) for cut in sampled.cuts]


def test_a_cut_is_reported_with_its_times():
    (reported,), _ = Shots().add(chunk(0, 1.5))
    assert reported == pb.Cut(time_seconds=1.5, previous_frame_seconds=1.46, strength=0.25)


def test_scenes_end_at_cuts_before_the_first_frame_that_is_sampled_after_them():
    assert Shots().scene_ends(*times(chunk(0, 0.25, 1.0))) == [SceneEnd(1, 0.25), SceneEnd(2, 1.0)]


def test_of_cuts_without_a_sampled_frame_between_them_the_first_ends_a_scene():
    assert Shots().scene_ends(*times(chunk(0, 0.6, 0.75, 0.9))) == [SceneEnd(2, 0.6)]


def test_a_cut_after_the_last_sampled_frame_ends_a_scene_in_the_next_chunk():
    shots = Shots()
    assert shots.scene_ends(*times(chunk(0, 1.75))) == []
    assert Shots(shots.state()).scene_ends(*times(chunk(1, 2.25))) == [SceneEnd(0, 1.75), SceneEnd(1, 2.25)]


def test_of_transitions_that_overlap_the_first_is_reported_across_chunks():
    def transition(start: float, end: float) -> Transition:
        return Transition(Fraction(start), Fraction(end), "dissolve")

    shots = Shots()
    _, first = shots.add(chunk(0, transitions=(transition(0.5, 1.25), transition(0.5, 1.5))))
    later = (transition(1.0, 1.75), transition(1.25, 2.0), transition(2.5, 3))
    _, second = Shots(shots.state()).add(chunk(1, transitions=later))
    assert [one.start_seconds for one in first + second] == [0.5, 1.25, 2.5]


def test_a_scene_change_is_at_the_nearest_cut_between_its_two_samples():
    change = SceneChange(previous_timestamp_seconds=1.0, timestamp_seconds=1.5)
    cuts = [cut(0.9), cut(1.1), cut(1.4), cut(1.6)]
    assert nearest_cut(change, 1.3, cuts) == cuts[2]
    assert nearest_cut(change, 1.15, cuts) == cuts[1]
    assert nearest_cut(change, 1.0, [cuts[0], cuts[3]]) is None
