import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.answer.top_texts import BestChunk, TopTexts
from videoanalysis.v1.decoder_pb2 import LeadingTexts

SIZE = 5


def leading(scores: list[float], count: int = SIZE) -> LeadingTexts:
    """Of a chunk in which the text at each position has one of `scores`."""
    order = sorted(range(len(scores)), key=lambda position: (-scores[position], position))[:count]
    return LeadingTexts(positions=order, scores=[scores[position] for position in order])


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=12, max_size=12, unique=True), min_size=1, max_size=20))
def test_knows_the_true_peaks_of_the_texts_that_reach_highest_although_a_chunk_tells_only_of_some(chunks):
    peaks = TopTexts(SIZE)
    for index, scores in enumerate(chunks):
        peaks.add(index, leading(scores))
    all_scores = np.array(chunks)
    highest = np.sort(all_scores.max(axis=0))[::-1]
    assert len(peaks) == SIZE
    for position, peak in peaks.items():
        assert peak.score == all_scores[:, position].max() >= highest[SIZE - 1]
        assert peak.chunk_index == int(np.argmax(all_scores[:, position]))
    assert sorted((peak.score for _, peak in peaks.items()), reverse=True) == list(highest[:SIZE])


def test_of_equal_scores_the_first_chunk_has_it():
    peaks = TopTexts(SIZE)
    for index in range(3):
        peaks.add(index, leading([0.25, 0.5]))
    assert [peaks.of(position) for position in (0, 1, 2)] == [BestChunk(0, 0.25), BestChunk(0, 0.5), None]


def test_goes_on_with_what_was_known():
    first = TopTexts(SIZE)
    first.add(0, leading([0.25, 0.5]))
    second = TopTexts(SIZE, first.items())
    second.add(1, leading([0.75, 0.125]))
    assert second.items() == [(0, BestChunk(1, 0.75)), (1, BestChunk(0, 0.5))]
