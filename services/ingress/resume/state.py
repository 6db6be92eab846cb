"""The state of an analysis behind one of its chunks: everything the chunks after it need, in a few kilobytes."""

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
_BEST_CHUNK = np.dtype([("position", "<u4"), ("chunk_index", "<u4"), ("score", "<f4")])
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

    def to_bytes(self) -> bytes:
        """A JSON header, then three vectors and the texts' best chunks, little-endian."""
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
            "best": [len(summary.top_tags), len(summary.top_captions)],
            "accelerator": self.accelerator_seconds,
            "failures": self.decode_failures,
            "searched": self.frames_searched,
            "all": self.decode_all,
        }
        encoded = json.dumps(header, separators=(",", ":")).encode()
        vectors = np.concatenate([ema, summary.embedding_sum, summary.scene_sum]).astype(_NUMBER)
        best = [(position, text.chunk_index, text.score) for position, text in summary.top_tags + summary.top_captions]
        return b"".join(
            [_HEADER_LENGTH.pack(len(encoded)), encoded, vectors.tobytes(), np.array(best, _BEST_CHUNK).tobytes()]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "ResumeState":
        """Reads what `to_bytes` wrote; the caller must have verified that it is nothing else."""
        (header_bytes,) = _HEADER_LENGTH.unpack_from(data)
        start = _HEADER_LENGTH.size
        header: dict[str, Any] = json.loads(data[start : start + header_bytes])
        dimensions, tags = header["dimensions"], header["best"][0]
        vectors: NDArray[np.float32] = np.frombuffer(data, _NUMBER, 3 * dimensions, start + header_bytes)
        ema, embedding_sum, scene_sum = vectors.astype(np.float32).reshape(3, dimensions)
        best_at = start + header_bytes + vectors.nbytes
        best = tuple(
            (position, BestChunk(chunk_index, score))
            for position, chunk_index, score in np.frombuffer(data, _BEST_CHUNK, sum(header["best"]), best_at).tolist()
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
                top_tags=best[:tags],
                top_captions=best[tags:],
            ),
            accelerator_seconds=header["accelerator"],
            decode_failures=header["failures"],
            frames_searched=header["searched"],
            decode_all=header["all"],
        )
