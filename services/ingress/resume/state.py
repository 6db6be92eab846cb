"""The state of an analysis behind one of its chunks: everything the chunks after it need, in a few kilobytes."""

import json
import struct
from dataclasses import astuple, dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from services.ingress.answer import ShotsState, SummaryState, TextShare
from videoanalysis import tensors
from videoanalysis.v1.decoder_pb2 import SceneState

_HEADER_LENGTH = struct.Struct("<H")
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
        """A JSON header, without keys to save space, then three vectors and the texts' shares, little-endian."""
        summary = self.summary
        ema = tensors.from_proto(self.scene_state.ema)
        header = [
            self.next_chunk,
            self.model_digest,
            self.text_bank_digest,
            len(ema),
            self.scene_state.last_frame_seconds,
            self.scene_state.last_event_seconds if self.scene_state.HasField("last_event_seconds") else None,
            summary.duration.as_integer_ratio(),
            summary.scene_start,
            len(summary.tags),
            len(summary.captions),
            summary.seconds_of_other_tags,
            summary.seconds_of_other_captions,
            self.accelerator_seconds,
            self.decode_failures,
            self.frames_searched,
            int(self.decode_all),
            self.shots.last_transition_end,
            self.shots.cut_without_frame,
        ]
        encoded = json.dumps(header, separators=(",", ":")).encode()
        vectors = np.concatenate([ema, summary.embedding_sum, summary.scene_sum]).astype(_NUMBER)
        texts = np.array([astuple(text) for text in summary.tags + summary.captions], _TEXT)
        return b"".join([_HEADER_LENGTH.pack(len(encoded)), encoded, vectors.tobytes(), texts.tobytes()])

    @classmethod
    def from_bytes(cls, data: bytes) -> "ResumeState":
        """Reads what `to_bytes` wrote; the caller must have verified that it is nothing else."""
        (header_bytes,) = _HEADER_LENGTH.unpack_from(data)
        start = _HEADER_LENGTH.size
        (
            next_chunk,
            model_digest,
            text_bank_digest,
            dimensions,
            last_frame_seconds,
            last_event_seconds,
            duration,
            scene_start,
            tags,
            captions,
            seconds_of_other_tags,
            seconds_of_other_captions,
            accelerator_seconds,
            decode_failures,
            frames_searched,
            decode_all,
            last_transition_end,
            cut_without_frame,
        ) = json.loads(data[start : start + header_bytes])
        vectors: NDArray[np.float32] = np.frombuffer(data, _NUMBER, 3 * dimensions, start + header_bytes)
        ema, embedding_sum, scene_sum = vectors.astype(np.float32).reshape(3, dimensions)
        texts_at = start + header_bytes + vectors.nbytes
        texts = tuple(TextShare(*text) for text in np.frombuffer(data, _TEXT, tags + captions, texts_at).tolist())
        return cls(
            next_chunk=next_chunk,
            model_digest=model_digest,
            text_bank_digest=text_bank_digest,
            scene_state=SceneState(
                ema=tensors.to_proto(ema),
                last_event_seconds=last_event_seconds,
                last_frame_seconds=last_frame_seconds,
            ),
            summary=SummaryState(
                duration=Fraction(*duration),
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
            decode_all=bool(decode_all),
            shots=ShotsState(last_transition_end, cut_without_frame),
        )
