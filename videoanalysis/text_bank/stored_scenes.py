"""Reads the embeddings of scenes from results of analyses that were stored as JSON with include_embeddings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from videoanalysis import tensors
from videoanalysis.embeddings import pool
from videoanalysis.errors import InvalidInput
from videoanalysis.scores import Calibration
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse


class InvalidResult(ValueError):
    """A file holds no result with embeddings; the message is one sentence for the operator."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredScenes:
    """The scenes of one video. Embeddings are those of float16 frames."""

    name: str  # of the file
    model_digest: str
    calibration: Calibration
    starts: NDArray[np.float64]  # seconds, [scenes]
    ends: NDArray[np.float64]
    embeddings: NDArray[np.float32]  # [scenes, D], unit rows


def read_results(paths: list[Path]) -> list[StoredScenes]:
    """The results in files, and in the .json files of directories; at least one."""
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise InvalidResult(f"no .json file in {', '.join(map(str, paths))}")
    return [read_result(file) for file in files]


def read_result(path: Path) -> StoredScenes:
    try:
        result = json_format.Parse(path.read_bytes(), AnalyzeVideoResponse())
    except (OSError, ValueError, json_format.ParseError) as error:
        raise InvalidResult(f"{path}: cannot be read as the JSON of a result ({error})") from error
    if not all(chunk.HasField("embeddings") for chunk in result.chunks) or not result.chunks or not result.scenes:
        raise InvalidResult(f"{path}: has no embeddings; analyse the video with include_embeddings")
    if result.model.logit_scale <= 0:
        raise InvalidResult(f"{path}: does not name its model")
    try:
        frames = np.concatenate([tensors.from_proto(chunk.embeddings, "embeddings") for chunk in result.chunks])
    except (InvalidInput, ValueError) as error:
        raise InvalidResult(f"{path}: {error}") from error
    times = [time for chunk in result.chunks for time in chunk.frame_times_seconds]
    if frames.ndim != 2 or len(frames) != len(times):
        raise InvalidResult(f"{path}: {len(times)} frame times for embeddings of shape {list(frames.shape)}")
    starts = np.array([scene.start_seconds for scene in result.scenes])
    scene_of_frame = np.searchsorted(starts, times, side="right") - 1
    # Of scenes with equal times only one has frames.
    shown = np.unique(scene_of_frame)
    return StoredScenes(
        name=path.name,
        model_digest=result.model.digest,
        calibration=Calibration(result.model.logit_scale, result.model.logit_bias),
        starts=starts[shown],
        ends=np.array([result.scenes[scene].end_seconds for scene in shown]),
        embeddings=np.stack([pool(frames[scene_of_frame == scene].astype(np.float32)) for scene in shown]),
    )
