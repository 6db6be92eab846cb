"""Stored results of made-up videos."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from google.protobuf import json_format

from tests.decoder.samples import MODEL
from videoanalysis import tensors
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult, Scene
from videoanalysis.v1.encoder_pb2 import ModelInfo

SCALE, BIAS = 20.0, -8.0


def result(frames: np.ndarray, cuts: Sequence[int] = (), model: str = MODEL) -> AnalyzeVideoResponse:
    """A frame a second, four in a chunk; a new scene begins half a second before each of `cuts`, which are frames."""
    edges = [0.0, *(cut - 0.5 for cut in cuts), float(len(frames))]
    return AnalyzeVideoResponse(
        model=ModelInfo(digest=model, logit_scale=SCALE, logit_bias=BIAS),
        scenes=[Scene(start_seconds=start, end_seconds=end) for start, end in pairwise(edges)],
        chunks=[
            ChunkResult(
                chunk_index=first // 4,
                start_seconds=first,
                frame_times_seconds=range(first, min(first + 4, len(frames))),
                embeddings=tensors.to_proto(frames[first : first + 4].astype(np.float16)),
            )
            for first in range(0, len(frames), 4)
        ],
    )


def write(path: Path, message: AnalyzeVideoResponse) -> Path:
    path.write_text(json_format.MessageToJson(message))
    return path
