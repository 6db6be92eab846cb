"""The options of an analysis, as the clients take them, and the request made of them."""

import uuid
from collections.abc import Iterable
from typing import Any, TypedDict

from videoanalysis.errors import InvalidInput
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, CutDetection, Priority, SceneBoundaries
from videoanalysis.v1.decoder_pb2 import SceneDetection


class AnalysisOptions(TypedDict, total=False):
    """Optional fields of AnalyzeVideoRequest, documented there; None is the service's default."""

    stream_id: str | None
    frames_per_chunk: int | None
    chunk_duration_seconds: float | None
    top_k_tags: int | None
    labels: Iterable[str] | None
    text_bank: str | None
    include_embeddings: bool | None
    include_scene_scores: bool | None
    scene_threshold: float | None
    ema_alpha: float | None
    min_probability: float | None
    output_uri: str | None
    scene_detection: SceneDetection | None
    priority: Priority | None
    sampling_tolerance_seconds: float | None
    reuse_difference: float | None
    start_seconds: float | None
    end_seconds: float | None
    cut_detection: CutDetection | None
    scene_boundaries: SceneBoundaries | None
    min_scene_seconds: float | None


def request_of(options: AnalysisOptions, **fields: Any) -> AnalyzeVideoRequest:
    """The request with an id: all calls of one analysis have the same in the service's log."""
    _check_options(options)
    request = AnalyzeVideoRequest()
    for name, value in {**fields, **options}.items():
        try:
            request.MergeFrom(AnalyzeVideoRequest(**{name: value}))
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{name}: holds bytes that are not valid UTF-8", field=name) from error
    request.stream_id = request.stream_id or uuid.uuid4().hex
    return request


def _check_options(options: AnalysisOptions) -> None:
    if unknown := options.keys() - AnalysisOptions.__annotations__.keys():
        raise TypeError(f"no option of an analysis: {', '.join(sorted(unknown))}")
    if isinstance(options.get("labels"), str):
        raise TypeError("labels: a sequence of texts, not one text")
