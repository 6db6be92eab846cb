"""Resume states of made-up videos."""

from fractions import Fraction

import numpy as np

from services.ingress.answer import ShotsState, SummaryState, TextShare
from services.ingress.resume.state import ResumeState
from videoanalysis import tensors
from videoanalysis.scores import LEADING_CAPTIONS, LEADING_TAGS
from videoanalysis.v1.decoder_pb2 import SceneState

DIGEST = "sha256:" + "f" * 64


def resume_state(
    dimensions: int = 8, *, seed: int = 0, tags: int = 3, captions: int = 2, event: bool = True, bank: bool = True
) -> ResumeState:
    draw = np.random.default_rng(seed)

    def vector() -> np.ndarray:
        return draw.standard_normal(dimensions).astype(np.float32)

    def shares(count: int) -> tuple[TextShare, ...]:
        numbers = draw.uniform(0, 1e5, (count, 4)).astype(np.float32)
        return tuple(TextShare(2**32 - 1 - i, *row) for i, row in enumerate(numbers.tolist()))

    return ResumeState(
        next_chunk=int(draw.integers(1, 2**32)),
        model_digest=DIGEST,
        text_bank_digest=DIGEST if bank else "",
        scene_state=SceneState(
            ema=tensors.to_proto(vector()),
            last_event_seconds=draw.uniform(0, 1e5) if event else None,
            last_frame_seconds=draw.uniform(0, 1e5),
        ),
        summary=SummaryState(
            duration=Fraction(int(draw.integers(1, 2**62)), int(draw.integers(1, 2**62))),
            embedding_sum=vector(),
            scene_start=draw.uniform(0, 1e5),
            scene_sum=vector(),
            tags=shares(tags),
            captions=shares(captions),
            seconds_of_other_tags=draw.uniform(0, 1e5),
            seconds_of_other_captions=draw.uniform(0, 1e5),
        ),
        accelerator_seconds=draw.uniform(0, 1e5),
        decode_failures=int(draw.integers(0, 2**31)),
        frames_searched=int(draw.integers(0, 2**31)),
        decode_all=bool(draw.integers(2)),
        shots=ShotsState(draw.uniform(0, 1e5), draw.uniform(0, 1e5) if event else None),
    )


def largest(dimensions: int, seed: int = 0) -> ResumeState:
    """With as many texts as there can be, and a duration that is long when written out."""
    return resume_state(dimensions, seed=seed, tags=LEADING_TAGS, captions=LEADING_CAPTIONS)


def same(one: ResumeState, other: ResumeState) -> bool:
    """To the last bit."""

    def bits(of: ResumeState) -> tuple[object, ...]:
        summary = of.summary
        return (
            of.next_chunk,
            of.model_digest,
            of.text_bank_digest,
            of.scene_state.SerializeToString(deterministic=True),
            summary.duration,
            summary.embedding_sum.tobytes(),
            summary.scene_start,
            summary.scene_sum.tobytes(),
            summary.tags,
            summary.captions,
            summary.seconds_of_other_tags,
            summary.seconds_of_other_captions,
            of.accelerator_seconds,
            of.decode_failures,
            of.frames_searched,
            of.decode_all,
            of.shots,
        )

    return bits(one) == bits(other)
