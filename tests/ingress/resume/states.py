"""Resume states of made-up videos."""

from fractions import Fraction

import numpy as np

from services.ingress.answer import BestChunk, SummaryState
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

    def best_chunks(count: int) -> tuple[tuple[int, BestChunk], ...]:
        scores = draw.uniform(-1, 1, count).astype(np.float32)
        chunks = draw.integers(0, 2**32, count)
        return tuple((2**32 - 1 - i, BestChunk(int(chunks[i]), float(scores[i]))) for i in range(count))

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
            top_tags=best_chunks(tags),
            top_captions=best_chunks(captions),
        ),
        accelerator_seconds=draw.uniform(0, 1e5),
        decode_failures=int(draw.integers(0, 2**31)),
        frames_searched=int(draw.integers(0, 2**31)),
        decode_all=bool(draw.integers(2)),
    )


def largest(dimensions: int) -> ResumeState:
    """With as many texts as there can be, and numbers that are long when written out."""
    return resume_state(dimensions, tags=LEADING_TAGS, captions=LEADING_CAPTIONS)


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
            summary.top_tags,
            summary.top_captions,
            of.accelerator_seconds,
            of.decode_failures,
            of.frames_searched,
            of.decode_all,
        )

    return bits(one) == bits(other)
