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
def test_the_best_chunks_of_the_highest_texts_are_exact_although_a_chunk_reports_only_some_texts(chunks):
    top = TopTexts(SIZE)
    for index, scores in enumerate(chunks):
        top.add(index, leading(scores))
    all_scores = np.array(chunks)
    highest = np.sort(all_scores.max(axis=0))[::-1]
    assert len(top) == SIZE
    for position, best in top.items():
        assert best.score == all_scores[:, position].max() >= highest[SIZE - 1]
        assert best.chunk_index == int(np.argmax(all_scores[:, position]))
    assert sorted((best.score for _, best in top.items()), reverse=True) == list(highest[:SIZE])


def test_of_equal_scores_the_first_chunk_has_it():
    top = TopTexts(SIZE)
    for index in range(3):
        top.add(index, leading([0.25, 0.5]))
    assert [top.of(position) for position in (0, 1, 2)] == [BestChunk(0, 0.25), BestChunk(0, 0.5), None]


def test_continues_from_known_best_chunks():
    first = TopTexts(SIZE)
    first.add(0, leading([0.25, 0.5]))
    second = TopTexts(SIZE, first.items())
    second.add(1, leading([0.75, 0.125]))
    assert second.items() == [(0, BestChunk(1, 0.75)), (1, BestChunk(0, 0.5))]
