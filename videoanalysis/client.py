"""Analyses videos by a service: `AsyncClient` within an event loop, `Client` everywhere else.

What fails in passing is tried again within the time limit: overload when the service says so, unavailability a few
times. An analysis changes nothing, so it may be repeated whenever it breaks, and starts from the beginning; one with
an `output_uri`, to which it writes, is repeated only if the service refused it before it had begun.
"""

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Self, TypedDict, Unpack

import grpc

from videoanalysis import channels
from videoanalysis.analysis import Analysis, Progress
from videoanalysis.errors import Overloaded, ServiceError, Unavailable, carries_details, from_rpc_error
from videoanalysis.v1.analysis_pb2 import (
    STAGE_WAITING,
    AnalyzeVideoRequest,
    ChunkResult,
    StreamAnalyzeVideoRequest,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub
from videoanalysis.v1.decoder_pb2 import SceneDetection

# As long as a service works on one request unless its operator says otherwise.
TIMEOUT_SECONDS = 3600.0
ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
_OPTIONS = [
    *channels.OPTIONS,
    # The summary of a day of short scenes is over gRPC's 4 MiB.
    ("grpc.max_receive_message_length", 64 << 20),
    # Behind one name there may be many replicas; one that is draining, or away, is passed over.
    (
        "grpc.service_config",
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "readiness"}}),
    ),
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


OnProgress = Callable[[Progress], None]
OnRetry = Callable[[ServiceError, float], None]


def _ignore(*_: object) -> None:
    pass


class AsyncClient:
    """Calls the service at host:port, over one connection while it is entered; for many analyses at once.

    In place of an address it takes a channel, which stays open: for TLS, or options of one's own. An analysis fails
    after `attempts` calls that failed in passing; refusals for overload do not count, they are waited out.
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
    ) -> Analysis:
        """Analyse a video of any length, which the service must be able to read at `video_uri`.

        `on_retry` hears what has failed and for how many seconds we wait before the next call. Raises ServiceError
        within `timeout_seconds`. Leaving, by cancellation or by what a callback raises, ends the work there too.
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
    ) -> Analysis:
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
        self._attempts_left = attempts
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        # Of the present call: the chunks so far, and whether the service may have begun to work.
        self._chunks: list[ChunkResult] = []
        self._has_begun = False

    def begin(self) -> tuple[StreamAnalyzeVideoRequest, float]:
        """The request of the next call, and its time limit in seconds. It starts from the beginning of the video."""
        self._chunks.clear()
        self._has_begun = False
        return StreamAnalyzeVideoRequest(analysis=self._request), self._remaining_seconds()

    def hear(self, response: StreamAnalyzeVideoResponse) -> Analysis | None:
        """The analysis, once it is complete."""
        event = response.WhichOneof("event")
        self._has_begun |= event != "progress" or response.progress.stage != STAGE_WAITING
        match event:
            case "progress":
                self._on_progress(Progress.from_message(response.progress))
            case "chunk":
                if response.chunk.chunk_index == 0:
                    # The video was started anew on another model: what came before is of the old one.
                    self._chunks.clear()
                self._chunks.append(response.chunk)
            case "summary":
                answer = response.summary
                answer.chunks.extend(self._chunks)
                return Analysis.from_message(answer)
        return None

    def pause_after(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next call; raises ServiceError if there is to be none."""
        failure = from_rpc_error(error)
        is_from_service = carries_details(error)
        is_refusal = is_from_service and not self._has_begun
        is_overload = isinstance(failure, Overloaded)
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
        self._on_retry(failure, pause)
        return pause

    def _remaining_seconds(self) -> float:
        return max(0.0, self._deadline - time.monotonic())


def _incomplete() -> Unavailable:
    return Unavailable("the service ended the call without a summary", reason="INCOMPLETE_ANSWER")
