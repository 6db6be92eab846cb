"""Where a video stands behind one of its chunks: all that the rest of it must know, as a few kilobytes."""

import json
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ingress.answer import BestChunk, SummaryState
from videoanalysis import tensors
from videoanalysis.v1.decoder_pb2 import SceneState

_HEADER_LENGTH = struct.Struct("<H")
_PEAK = np.dtype([("position", "<u4"), ("chunk_index", "<u4"), ("score", "<f4")])
_NUMBER = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class ResumeState:
    """Everything is as it was to the last bit when it is read again."""

    next_chunk: int
    model_digest: str
    text_bank_digest: str  # empty where there is no bank
    scene_state: SceneState
    summary: SummaryState
    accelerator_seconds: float  # for the chunks so far
    decode_failures: int  # packets refused so far
    frames_searched: int  # decoded in search of cuts so far
    decode_all: bool  # what the packets promise is not to be trusted

    def to_bytes(self) -> bytes:
        """A JSON object of what is short, then the three vectors and the peaks, little-endian."""
        summary = self.summary
        ema = tensors.from_proto(self.scene_state.ema)
        header = {
            "next_chunk": self.next_chunk,
            "model": self.model_digest,
            "bank": self.text_bank_digest,
            "dimensions": len(ema),
            "last_frame": self.scene_state.last_frame_seconds,
            "last_event": self.scene_state.last_event_seconds
            if self.scene_state.HasField("last_event_seconds")
            else None,
            "duration": summary.duration.as_integer_ratio(),
            "scene_start": summary.scene_start,
            "peaks": [len(summary.top_tags), len(summary.top_captions)],
            "accelerator": self.accelerator_seconds,
            "failures": self.decode_failures,
            "searched": self.frames_searched,
            "all": self.decode_all,
        }
        encoded = json.dumps(header, separators=(",", ":")).encode()
        vectors = np.concatenate([ema, summary.embedding_sum, summary.scene_sum]).astype(_NUMBER)
        peaks = [(position, peak.chunk_index, peak.score) for position, peak in summary.top_tags + summary.top_captions]
        return b"".join(
            [_HEADER_LENGTH.pack(len(encoded)), encoded, vectors.tobytes(), np.array(peaks, _PEAK).tobytes()]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "ResumeState":
        """What `to_bytes` has written, and nothing else: others must be kept out before."""
        (header_bytes,) = _HEADER_LENGTH.unpack_from(data)
        start = _HEADER_LENGTH.size
        header: dict[str, Any] = json.loads(data[start : start + header_bytes])
        dimensions, tags = header["dimensions"], header["peaks"][0]
        vectors: NDArray[np.float32] = np.frombuffer(data, _NUMBER, 3 * dimensions, start + header_bytes)
        ema, embedding_sum, scene_sum = vectors.astype(np.float32).reshape(3, dimensions)
        peaks_at = start + header_bytes + vectors.nbytes
        peaks = tuple(
            (position, BestChunk(chunk_index, score))
            for position, chunk_index, score in np.frombuffer(data, _PEAK, sum(header["peaks"]), peaks_at).tolist()
        )
        return cls(
            next_chunk=header["next_chunk"],
            model_digest=header["model"],
            text_bank_digest=header["bank"],
            scene_state=SceneState(
                ema=tensors.to_proto(ema),
                last_event_seconds=header["last_event"],
                last_frame_seconds=header["last_frame"],
            ),
            summary=SummaryState(
                duration=Fraction(*header["duration"]),
                embedding_sum=embedding_sum,
                scene_start=header["scene_start"],
                scene_sum=scene_sum,
                top_tags=peaks[:tags],
                top_captions=peaks[tags:],
            ),
            accelerator_seconds=header["accelerator"],
            decode_failures=header["failures"],
            frames_searched=header["searched"],
            decode_all=header["all"],
        )
