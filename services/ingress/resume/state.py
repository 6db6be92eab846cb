"""The state of an analysis after one of its chunks: everything the later chunks need, in a few kilobytes."""

import math
import struct
from dataclasses import astuple, dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from services.ingress.answer import ShotsState, SummaryState, TextShare
from videoanalysis import tensors
from videoanalysis.v1.decoder_pb2 import SceneState

# next_chunk, decode_failures, frames_searched, decode_all; dimensions, tags, captions; times and sums of seconds.
_FIELDS = struct.Struct("<IIQ? HHH 8d")
_LENGTHS = struct.Struct("<4H")  # of the digests, and of the numerator and denominator of the duration
_TEXT = np.dtype(
    [
        ("position", "<u4"),
        ("seconds", "<f4"),
        ("seconds_before", "<f4"),
        ("max_probability", "<f4"),
        ("peak_seconds", "<f4"),
    ]
)
_NUMBER = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class ResumeState:
    """Serialised and read again it is equal to the last bit."""

    next_chunk: int
    model_digest: str
    text_bank_digest: str  # empty where there is no bank
    scene_state: SceneState
    summary: SummaryState
    accelerator_seconds: float  # for the chunks so far
    decode_failures: int  # packets that could not be decoded so far
    frames_searched: int  # decoded to search for cuts so far
    decode_all: bool  # the packets' timestamps proved unreliable
    shots: ShotsState

    def to_bytes(self) -> bytes:
        """Little-endian: numbers, digests and duration, then three vectors and the texts' shares."""
        summary, scene = self.summary, self.scene_state
        ema = tensors.from_proto(scene.ema)
        fields = _FIELDS.pack(
            self.next_chunk,
            self.decode_failures,
            self.frames_searched,
            self.decode_all,
            len(ema),
            len(summary.tags),
            len(summary.captions),
            scene.last_frame_seconds,
            _or_nan(scene.last_event_seconds if scene.HasField("last_event_seconds") else None),
            summary.scene_start,
            summary.seconds_of_other_tags,
            summary.seconds_of_other_captions,
            self.accelerator_seconds,
            _or_nan(self.shots.last_transition_end),
            _or_nan(self.shots.cut_without_frame),
        )
        parts = [
            self.model_digest.encode(),
            self.text_bank_digest.encode(),
            *(
                number.to_bytes(-(-number.bit_length() // 8), "little")
                for number in summary.duration.as_integer_ratio()
            ),
        ]
        vectors = np.concatenate([ema, summary.embedding_sum, summary.scene_sum]).astype(_NUMBER)
        texts = np.array([astuple(text) for text in summary.tags + summary.captions], _TEXT)
        return b"".join([fields, _LENGTHS.pack(*map(len, parts)), *parts, vectors.tobytes(), texts.tobytes()])

    @classmethod
    def from_bytes(cls, data: bytes) -> "ResumeState":
        """Reads the output of `to_bytes`; the caller must have verified its signature."""
        (
            next_chunk,
            decode_failures,
            frames_searched,
            decode_all,
            dimensions,
            tags,
            captions,
            last_frame_seconds,
            last_event_seconds,
            scene_start,
            seconds_of_other_tags,
            seconds_of_other_captions,
            accelerator_seconds,
            last_transition_end,
            cut_without_frame,
        ) = _FIELDS.unpack_from(data)
        lengths = _LENGTHS.unpack_from(data, _FIELDS.size)
        ends = list(accumulate(lengths, initial=_FIELDS.size + _LENGTHS.size))
        model_digest, text_bank_digest, *ratio = (data[start:end] for start, end in pairwise(ends))
        vectors: NDArray[np.float32] = np.frombuffer(data, _NUMBER, 3 * dimensions, ends[-1])
        ema, embedding_sum, scene_sum = vectors.astype(np.float32).reshape(3, dimensions)
        shares = np.frombuffer(data, _TEXT, tags + captions, ends[-1] + vectors.nbytes)
        texts = tuple(TextShare(*text) for text in shares.tolist())
        return cls(
            next_chunk=next_chunk,
            model_digest=model_digest.decode(),
            text_bank_digest=text_bank_digest.decode(),
            scene_state=SceneState(
                ema=tensors.to_proto(ema),
                last_event_seconds=_or_none(last_event_seconds),
                last_frame_seconds=last_frame_seconds,
            ),
            summary=SummaryState(
                duration=Fraction(*(int.from_bytes(number, "little") for number in ratio)),
                embedding_sum=embedding_sum,
                scene_start=scene_start,
                scene_sum=scene_sum,
                tags=texts[:tags],
                captions=texts[tags:],
                seconds_of_other_tags=seconds_of_other_tags,
                seconds_of_other_captions=seconds_of_other_captions,
            ),
            accelerator_seconds=accelerator_seconds,
            decode_failures=decode_failures,
            frames_searched=frames_searched,
            decode_all=decode_all,
            shots=ShotsState(_or_none(last_transition_end), _or_none(cut_without_frame)),
        )


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else number
