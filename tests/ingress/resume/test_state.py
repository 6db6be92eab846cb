from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.resume.state import ResumeState
from tests.ingress.resume.states import resume_state, same


@given(
    dimensions=st.integers(1, 50),
    seed=st.integers(0, 10_000),
    tags=st.integers(0, 5),
    captions=st.integers(0, 5),
    event=st.booleans(),
    bank=st.booleans(),
)
def test_is_read_as_it_was_written(dimensions, seed, tags, captions, event, bank):
    written = resume_state(dimensions, seed=seed, tags=tags, captions=captions, event=event, bank=bank)
    assert same(ResumeState.from_bytes(written.to_bytes()), written)


@given(
    seconds=st.floats(0, allow_nan=False, allow_infinity=False), numerator=st.integers(1), denominator=st.integers(1)
)
def test_no_number_is_rounded(seconds, numerator, denominator):
    made = resume_state()
    made.scene_state.last_event_seconds = made.scene_state.last_frame_seconds = seconds
    summary = replace(made.summary, scene_start=seconds, duration=Fraction(numerator, denominator))
    written = replace(made, summary=summary, accelerator_seconds=seconds)
    assert same(ResumeState.from_bytes(written.to_bytes()), written)


def test_the_smallest_floats_keep_their_bits():
    tiny = np.array([1e-45, -0.0, np.float32(1) / 3, 3e38], np.float32)
    made = resume_state(4)
    written = replace(made, summary=replace(made.summary, embedding_sum=tiny, scene_sum=-tiny))
    assert same(ResumeState.from_bytes(written.to_bytes()), written)


def test_what_is_read_can_be_written_again():
    written = resume_state().to_bytes()
    assert ResumeState.from_bytes(written).to_bytes() == written
