"""The job of analysing one video: a request whose values are checked, its source, caller and deadline."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from services.ingress.admission import Caller, Deadline
from services.ingress.sources import Source
from videoanalysis.errors import Violations
from videoanalysis.limits import (
    MAX_FRAMES_PER_CHUNK,
    MAX_LABELS,
    MAX_TEXT_CHARACTERS,
    MAX_TOP_K,
    has_control_characters,
    is_bank_name,
)
from videoanalysis.scores import DEFAULT_EMA_ALPHA, DEFAULT_SCENE_THRESHOLD
from videoanalysis.v1.analysis_pb2 import (
    PRIORITY_INTERACTIVE,
    AnalyzeVideoRequest,
    CutDetection,
    Priority,
    SceneBoundaries,
)
from videoanalysis.v1.decoder_pb2 import SceneDetection, SceneSpec

_DEFAULT_FRAMES = 16
_DEFAULT_CHUNK_SECONDS = 10.0
_DEFAULT_TOP_K = 5
_MAX_TOLERANCE_SECONDS = 5
_MIN_RANGE_SECONDS, _MAX_RANGE_SECONDS = 0.001, 1_000_000
_MAX_SCENE_SECONDS = 600
_MAX_ID_CHARACTERS = 200

# Records a violation of a field unless the condition holds.
_Check = Callable[[bool, str, str], None]


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """The options of an analysis, with defaults filled in; independent of the video."""

    stream_id: str
    priority: Priority
    frames_per_chunk: int
    chunk_duration: Fraction
    top_k_tags: int
    min_probability: float | None  # None: the text bank's own
    labels: tuple[str, ...]
    text_bank: str
    scene: SceneSpec
    include_embeddings: bool
    include_scene_scores: bool
    sampling_tolerance: Fraction = Fraction(0)  # seconds
    reuse_difference: float = 0.0
    start: Fraction = Fraction(0)  # seconds
    end: Fraction | None = None  # None: that of the video
    detect_cuts: bool = True
    scenes_by_cuts: bool = False
    min_scene_seconds: float = 0.0

    def analysed_seconds(self, video_seconds: float) -> float:
        """How much of a video of `video_seconds` is analysed."""
        end = video_seconds if self.end is None else min(video_seconds, float(self.end))
        return max(0.0, end - float(self.start))


@dataclass(frozen=True, slots=True)
class AnalysisJob:
    request: AnalysisRequest
    source: Source
    caller: Caller
    deadline: Deadline


def read_request(request: AnalyzeVideoRequest) -> AnalysisRequest:
    """Raises InvalidInput naming every field whose value is not allowed."""
    violations = Violations()
    check = violations.require

    def given(field: str, default: Any) -> Any:
        return getattr(request, field) if request.HasField(field) else default

    frames: int = given("frames_per_chunk", _DEFAULT_FRAMES)
    seconds: float = given("chunk_duration_seconds", _DEFAULT_CHUNK_SECONDS)
    top_k: int = given("top_k_tags", _DEFAULT_TOP_K)
    threshold: float = given("scene_threshold", DEFAULT_SCENE_THRESHOLD)
    alpha: float = given("ema_alpha", DEFAULT_EMA_ALPHA)
    min_probability: float | None = given("min_probability", None)
    check(
        len(request.stream_id) <= _MAX_ID_CHARACTERS and request.stream_id.isprintable(),
        "stream_id",
        f"over {_MAX_ID_CHARACTERS} characters, or not printable",
    )
    check(1 <= frames <= MAX_FRAMES_PER_CHUNK, "frames_per_chunk", f"{frames}, must be 1 to {MAX_FRAMES_PER_CHUNK}")
    check(1 <= seconds <= 600, "chunk_duration_seconds", f"{seconds}, must be 1 to 600")
    check(1 <= top_k <= MAX_TOP_K, "top_k_tags", f"{top_k}, must be 1 to {MAX_TOP_K}")
    _check_labels(request, check)
    check(
        not request.text_bank or is_bank_name(request.text_bank),
        "text_bank",
        "must be 1 to 100 letters, digits, dots, dashes or underscores",
    )
    check(0 < threshold <= 2, "scene_threshold", f"{threshold}, must be above 0 and at most 2")
    check(0 < alpha < 1, "ema_alpha", f"{alpha}, must be above 0 and below 1")
    check(0 <= (min_probability or 0) <= 1, "min_probability", f"{min_probability}, must be 0 to 1")
    check(request.scene_detection in SceneDetection.values(), "scene_detection", "is not a value of the enum")
    check(request.priority in Priority.values(), "priority", "is not a value of the enum")
    _check_sampling(request, check)
    _check_scenes(request, check)
    violations.check()
    return AnalysisRequest(
        stream_id=request.stream_id or uuid.uuid4().hex,
        priority=request.priority or PRIORITY_INTERACTIVE,
        frames_per_chunk=frames,
        # As it was written: 0.1 is a tenth, not the binary fraction nearest to it.
        chunk_duration=Fraction(repr(seconds)),
        top_k_tags=top_k,
        min_probability=min_probability,
        labels=tuple(request.labels),
        text_bank=request.text_bank or "default",
        scene=SceneSpec(detection=request.scene_detection, threshold=threshold, ema_alpha=alpha),
        include_embeddings=request.include_embeddings,
        include_scene_scores=request.include_scene_scores,
        sampling_tolerance=Fraction(repr(request.sampling_tolerance_seconds)),
        reuse_difference=request.reuse_difference,
        start=Fraction(repr(request.start_seconds)),
        end=Fraction(repr(request.end_seconds)) if request.end_seconds else None,
        detect_cuts=_detects_cuts(request),
        scenes_by_cuts=_ends_at_cuts(request),
        min_scene_seconds=request.min_scene_seconds,
    )


def _check_sampling(request: AnalyzeVideoRequest, check: _Check) -> None:
    tolerance = request.sampling_tolerance_seconds
    allowed = f"{tolerance}, must be 0 to {_MAX_TOLERANCE_SECONDS}"
    check(0 <= tolerance <= _MAX_TOLERANCE_SECONDS, "sampling_tolerance_seconds", allowed)
    check(0 <= request.reuse_difference <= 1, "reuse_difference", f"{request.reuse_difference}, must be 0 to 1")
    start, end = request.start_seconds, request.end_seconds
    check(0 <= start <= _MAX_RANGE_SECONDS, "start_seconds", f"{start}, must be 0 to {_MAX_RANGE_SECONDS}")
    check(
        end == 0 or start + _MIN_RANGE_SECONDS <= end <= _MAX_RANGE_SECONDS,
        "end_seconds",
        f"{end}, must be {_MIN_RANGE_SECONDS} or more above start_seconds and at most {_MAX_RANGE_SECONDS}, or 0",
    )


def _check_scenes(request: AnalyzeVideoRequest, check: _Check) -> None:
    check(request.cut_detection in CutDetection.values(), "cut_detection", "is not a value of the enum")
    check(request.scene_boundaries in SceneBoundaries.values(), "scene_boundaries", "is not a value of the enum")
    check(_detects_cuts(request) or not _ends_at_cuts(request), "scene_boundaries", "CUTS needs cut_detection")
    seconds = request.min_scene_seconds
    check(0 <= seconds <= _MAX_SCENE_SECONDS, "min_scene_seconds", f"{seconds}, must be 0 to {_MAX_SCENE_SECONDS}")


def _detects_cuts(request: AnalyzeVideoRequest) -> bool:
    return request.cut_detection != CutDetection.CUT_DETECTION_OFF


def _ends_at_cuts(request: AnalyzeVideoRequest) -> bool:
    return request.scene_boundaries == SceneBoundaries.SCENE_BOUNDARIES_CUTS


def _check_labels(request: AnalyzeVideoRequest, check: _Check) -> None:
    labels = request.labels
    if len(labels) > MAX_LABELS:
        check(False, "labels", f"{len(labels)}, must be at most {MAX_LABELS}")
        return
    check(len(set(labels)) == len(labels), "labels", "one occurs twice")
    for index, label in enumerate(labels):
        if not label.strip() or len(label) > MAX_TEXT_CHARACTERS or has_control_characters(label):
            check(
                False, "labels", f"number {index} is empty, over {MAX_TEXT_CHARACTERS} characters or has control ones"
            )
            return


def is_every_frame(scene: SceneSpec) -> bool:
    return scene.detection == SceneDetection.SCENE_DETECTION_EVERY_FRAME
