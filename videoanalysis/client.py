"""Analyses videos by a service: `AsyncClient` within an event loop, `Client` everywhere else.

What fails in passing is tried again within the time limit: overload when the service says so, unavailability a few
times. An analysis changes nothing, so it may be repeated whenever it breaks. It goes on behind the last chunk that was
heard, at whichever replica, if the service gives tokens for that, and otherwise starts from the beginning; a video that
gets ahead between its interruptions may have any number of them. One with an `output_uri`, to which it writes, is
repeated only if the service refused it before it had begun.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Self, TypedDict, Unpack

import grpc

from videoanalysis import channels
from videoanalysis.errors import Overloaded, ServiceError, Unavailable
from videoanalysis.status import carries_details, from_rpc_error
from videoanalysis.v1.analysis_pb2 import (
    STAGE_WAITING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    Priority,
    Scene,
    StreamAnalyzeVideoRequest,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub
from videoanalysis.v1.decoder_pb2 import SceneDetection
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import Progress, VideoAnalysis

# As long as a service works on one request unless its operator says otherwise.
TIMEOUT_SECONDS = 3600.0
ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
# Whoever is told this of a resume token can only start from the beginning.
_TOKEN_REFUSALS = {
    ErrorReason.TOKEN_FORGED,
    ErrorReason.TOKEN_EXPIRED,
    ErrorReason.TOKEN_OF_ANOTHER_CALLER,
    ErrorReason.TOKEN_OF_ANOTHER_REQUEST,
    ErrorReason.OBJECT_CHANGED,
    ErrorReason.MODEL_CHANGED,
    ErrorReason.TEXT_BANK_CHANGED,
}
_OPTIONS = [
    *channels.OPTIONS,
    # The summary of a day of short scenes is over gRPC's 4 MiB.
    ("grpc.max_receive_message_length", 64 << 20),
    # Where all replicas that were known have gone, new ones are asked for sooner than after gRPC's 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    channels.READY_REPLICAS,
]


class AnalysisOptions(TypedDict, total=False):
    """Fields of AnalyzeVideoRequest, which says what they mean; left out or None, the service's default holds."""

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


OnProgress = Callable[[Progress], None]
# What has failed, for how many seconds we wait before the next call, and from which second of the video on that is.
OnRetry = Callable[[ServiceError, float, float], None]


def _ignore(*_: object) -> None:
    pass


class AsyncClient:
    """Calls the service at host:port, over one connection while it is entered; for many analyses at once.

    In place of an address it takes a channel, which stays open: for TLS, or options of one's own. An analysis fails
    after `attempts` calls in a row that failed in passing and brought it no further; refusals for overload do not
    count, they are waited out.
    """

    def __init__(self, service: str | grpc.aio.Channel, *, attempts: int = ATTEMPTS) -> None:
        self._service = service
        self._own_channel: Any = None
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        channel = self._service
        if isinstance(channel, str):
            channel = self._own_channel = grpc.aio.insecure_channel(channel, options=_OPTIONS)
        self._stub = VideoAnalysisServiceStub(channel)  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._own_channel is not None:
            await self._own_channel.close()

    async def analyze(
        self,
        video_uri: str,
        *,
        on_progress: OnProgress = _ignore,
        on_retry: OnRetry = _ignore,
        timeout_seconds: float = TIMEOUT_SECONDS,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """Analyse a video of any length, which the service must be able to read at `video_uri`.

        `on_retry` hears what has failed and how it goes on. Raises ServiceError within `timeout_seconds`. Leaving, by
        cancellation or by what a callback raises, ends the work there too.
        """
        attempts = _Attempts(video_uri, options, on_progress, on_retry, timeout_seconds, self._attempts)
        while True:
            request, seconds = attempts.begin()
            call = self._stub.StreamAnalyzeVideo(request, timeout=seconds)
            try:
                async for response in call:
                    if (analysis := attempts.hear(response)) is not None:
                        return analysis
                raise _incomplete()
            except grpc.RpcError as error:
                pause = attempts.pause_after(error)
            finally:
                call.cancel()
            await asyncio.sleep(pause)


class Client:
    """As AsyncClient, for callers without an event loop; may be used by many threads at once."""

    def __init__(self, service: str | grpc.Channel, *, attempts: int = ATTEMPTS) -> None:
        self._service = service
        self._own_channel: Any = None
        self._attempts = attempts

    def __enter__(self) -> Self:
        channel = self._service
        if isinstance(channel, str):
            channel = self._own_channel = grpc.insecure_channel(channel, options=_OPTIONS)
        self._stub = VideoAnalysisServiceStub(channel)  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *_: object) -> None:
        if self._own_channel is not None:
            self._own_channel.close()

    def analyze(
        self,
        video_uri: str,
        *,
        on_progress: OnProgress = _ignore,
        on_retry: OnRetry = _ignore,
        timeout_seconds: float = TIMEOUT_SECONDS,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """As AsyncClient.analyze."""
        attempts = _Attempts(video_uri, options, on_progress, on_retry, timeout_seconds, self._attempts)
        while True:
            request, seconds = attempts.begin()
            call = self._stub.StreamAnalyzeVideo(request, timeout=seconds)
            try:
                for response in call:
                    if (analysis := attempts.hear(response)) is not None:
                        return analysis
                raise _incomplete()
            except grpc.RpcError as error:
                pause = attempts.pause_after(error)
            finally:
                call.cancel()
            time.sleep(pause)


class _Attempts:
    """One analysis over as many calls as it takes: what to ask, what was answered, whether a failure is the last."""

    def __init__(
        self,
        video_uri: str,
        options: AnalysisOptions,
        on_progress: OnProgress,
        on_retry: OnRetry,
        timeout_seconds: float,
        attempts: int,
    ) -> None:
        self._request = AnalyzeVideoRequest(video_uri=video_uri, **options)
        # The calls of one analysis share their id, also in the log of the service.
        self._request.stream_id = self._request.stream_id or uuid.uuid4().hex
        self._on_progress = on_progress
        self._on_retry = on_retry
        self._deadline = time.monotonic() + timeout_seconds
        self._attempts = self._attempts_left = attempts
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        # Heard so far, scenes only if they have ended, and the token to go on from there; empty: nothing can.
        self._chunks: list[ChunkResult] = []
        self._scenes: list[Scene] = []
        self._token = b""
        # Of the present call: how much was heard before it, and whether the service may have begun to work.
        self._earlier_chunks = self._earlier_scenes = 0
        self._has_begun = False

    def begin(self) -> tuple[StreamAnalyzeVideoRequest, float]:
        """The request of the next call, and its time limit in seconds."""
        if not self._token:
            self._forget()
        self._earlier_chunks, self._earlier_scenes = len(self._chunks), len(self._scenes)
        self._has_begun = False
        request = StreamAnalyzeVideoRequest(analysis=self._request, resume_token=self._token)
        return request, self._remaining_seconds()

    def hear(self, response: StreamAnalyzeVideoResponse) -> VideoAnalysis | None:
        """The analysis, once it is complete."""
        event = response.WhichOneof("event")
        self._has_begun |= event != "progress" or response.progress.stage != STAGE_WAITING
        match event:
            case "progress":
                self._on_progress(Progress.from_message(response.progress))
            case "chunk":
                if response.chunk.chunk_index == 0:
                    # The video was started anew on another model: what came before is of the old one.
                    self._forget()
                self._chunks.append(response.chunk)
                self._scenes += response.finished_scenes
                self._token = response.resume_token
                if self._token:
                    # Got further: whatever fails next is another matter.
                    self._attempts_left, self._pause_seconds = self._attempts, _FIRST_PAUSE_SECONDS
            case "summary":
                return VideoAnalysis.from_message(self._whole(response.summary))
        return None

    def _forget(self) -> None:
        self._chunks, self._scenes, self._token = [], [], b""
        self._earlier_chunks = self._earlier_scenes = 0

    def _whole(self, summary: AnalyzeVideoResponse) -> AnalyzeVideoResponse:
        """With all chunks, and before what it tells itself of scenes and changes what earlier calls have told."""
        earlier = self._chunks[: self._earlier_chunks]
        changes = [change for chunk in earlier for change in chunk.scene_changes] + list(summary.scene_changes)
        scenes = self._scenes[: self._earlier_scenes] + list(summary.scenes)
        for field in ("chunks", "scene_changes", "scenes"):
            summary.ClearField(field)
        summary.chunks.extend(self._chunks)
        summary.scene_changes.extend(changes)
        summary.scenes.extend(scenes)
        return summary

    def pause_after(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next call; raises ServiceError if there is to be none."""
        failure = from_rpc_error(error)
        is_from_service = carries_details(error)
        is_refusal = is_from_service and not self._has_begun
        is_overload = isinstance(failure, Overloaded)
        if self._earlier_chunks and is_from_service and failure.reason in _TOKEN_REFUSALS:
            return self._start_anew(failure, error)
        # Of a message over the limit gRPC itself says RESOURCE_EXHAUSTED, and would say so again.
        is_passing = is_from_service if is_overload else error.code() == grpc.StatusCode.UNAVAILABLE
        if not is_passing or (self._request.output_uri and not is_refusal):
            raise failure from error
        if not (is_overload and is_refusal):
            self._attempts_left -= 1
        pause = self._pause_seconds * random.uniform(0.5, 1)
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        if isinstance(failure, Overloaded):
            # Those who were told the same do not all come back at once.
            pause += failure.retry_after_seconds
        if self._attempts_left <= 0 or pause >= self._remaining_seconds():
            raise failure from error
        self._on_retry(failure, pause, self._heard_seconds() if self._token else 0.0)
        return pause

    def _start_anew(self, refusal: ServiceError, error: grpc.RpcError) -> float:
        # Not given back by getting further: two replicas that refuse each other's tokens must not go on for ever.
        self._attempts -= 1
        self._attempts_left = min(self._attempts_left - 1, self._attempts)
        if self._attempts_left <= 0:
            raise refusal from error
        self._forget()
        self._on_retry(refusal, 0.0, 0.0)
        return 0.0

    def _heard_seconds(self) -> float:
        return self._chunks[-1].start_seconds + self._chunks[-1].duration_seconds

    def _remaining_seconds(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _incomplete() -> Unavailable:
    return Unavailable("the service ended the call without a summary", reason=ErrorReason.INCOMPLETE_ANSWER)
