"""Client library of the service: `AsyncClient` for an event loop, `Client` for synchronous code.

Transient failures are retried within the time limit: overload after the delay that the service requests,
unavailability a limited number of times in a row. An analysis is idempotent, so it is retried at any point: it resumes
after the last chunk received, on any replica, if the service issues resume tokens, and restarts otherwise. An analysis
with an `output_uri`, to which it writes, is retried only if the service refused it before starting. Redecoding is
retried at any point, from the beginning.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Self, TypedDict, Unpack

import grpc

from videoanalysis import channels
from videoanalysis.errors import InvalidInput, Overloaded, ServiceError, Unavailable
from videoanalysis.redecoding import Redecoding
from videoanalysis.status import carries_details, from_rpc_error
from videoanalysis.v1.analysis_pb2 import (
    STAGE_WAITING,
    AnalyzeVideoRequest,
    AnalyzeVideoResponse,
    ChunkResult,
    CutDetection,
    Priority,
    Scene,
    SceneBoundaries,
    StreamAnalyzeVideoRequest,
    StreamAnalyzeVideoResponse,
)
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub
from videoanalysis.v1.decoder_pb2 import SceneDetection
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import Progress, VideoAnalysis

# The default limit of the service.
TIMEOUT_SECONDS = 3600.0
ATTEMPTS = 5
_FIRST_BACKOFF_SECONDS = 0.2
_MAX_BACKOFF_SECONDS = 10.0
# After these the analysis restarts from the beginning of the video.
_TOKEN_REJECTIONS = {
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
    # If all known replicas are gone, DNS is resolved again sooner than after gRPC's 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    channels.READY_REPLICAS,
]


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


# A bearer token, or a function that returns the one to use now.
Token = str | Callable[[], str]
OnProgress = Callable[[Progress], None]
# Called with the error, the seconds until the next call, and the second of the video at which it resumes.
OnRetry = Callable[[ServiceError, float, float], None]


def _ignore(*_: object) -> None:
    pass


class AsyncClient:
    """Calls the service at host:port over one connection, open while entered; runs many analyses concurrently.

    `credentials` are for TLS, by `grpc.ssl_channel_credentials` for example; without them the connection is plaintext.
    `token`, a bearer token or a function that returns the one of now, goes with every call. Instead of an address it
    takes a channel with other options, and leaves it open. An analysis fails after `attempts` failed calls in a row
    without progress; refusals for overload do not count, the client waits and retries.
    """

    def __init__(
        self,
        service: str | grpc.aio.Channel,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        _check_credentials(service, credentials)
        self._service = service
        self._credentials = credentials
        self._token = token
        self._own_channel: Any = None
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        channel = self._service
        if isinstance(channel, str):
            channel = self._own_channel = (
                grpc.aio.insecure_channel(channel, options=_OPTIONS)
                if self._credentials is None
                else grpc.aio.secure_channel(channel, self._credentials, options=_OPTIONS)
            )
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
        """Analyse a video of any length; `video_uri` must be readable by the service.

        Raises ServiceError within `timeout_seconds`. Cancellation, or an exception of a callback, also cancels the
        work in the service.
        """
        retries = _Retries(on_retry, timeout_seconds, self._attempts)
        attempts = _Attempts(_request(video_uri=video_uri, **options), on_progress, retries)
        while True:
            request, seconds = attempts.begin()
            call = self._stub.StreamAnalyzeVideo(request, timeout=seconds, metadata=_metadata(self._token))
            try:
                async for response in call:
                    if (analysis := attempts.receive(response)) is not None:
                        return analysis
                raise _incomplete()
            except grpc.RpcError as error:
                backoff = attempts.backoff_after(error)
            finally:
                call.cancel()
            await asyncio.sleep(backoff)

    async def redecode(
        self,
        stored: AnalyzeVideoResponse,
        *,
        on_retry: OnRetry = _ignore,
        timeout_seconds: float = TIMEOUT_SECONDS,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """The answer for the video of `stored`, analysed with include_embeddings, by another text bank or thresholds.

        Options about sampling have no effect. Raises ServiceError within `timeout_seconds`.
        """
        request, retries = _request(**options), _Retries(on_retry, timeout_seconds, self._attempts)
        while True:
            redecoding = Redecoding(stored, request)
            call = self._stub.RedecodeVideo(
                redecoding.requests_async(), timeout=retries.remaining_seconds(), metadata=_metadata(self._token)
            )
            try:
                async for response in call:
                    redecoding.receive(response)
                return redecoding.result()
            except grpc.RpcError as error:
                backoff = retries.backoff_after(
                    error, has_started=redecoding.has_started, is_transient=_is_broken_off(error)
                )
            finally:
                redecoding.end()
                call.cancel()
            await asyncio.sleep(backoff)


class Client:
    """The synchronous AsyncClient; safe to use from many threads."""

    def __init__(
        self,
        service: str | grpc.Channel,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        _check_credentials(service, credentials)
        self._service = service
        self._credentials = credentials
        self._token = token
        self._own_channel: Any = None
        self._attempts = attempts

    def __enter__(self) -> Self:
        channel = self._service
        if isinstance(channel, str):
            channel = self._own_channel = (
                grpc.insecure_channel(channel, options=_OPTIONS)
                if self._credentials is None
                else grpc.secure_channel(channel, self._credentials, options=_OPTIONS)
            )
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
        retries = _Retries(on_retry, timeout_seconds, self._attempts)
        attempts = _Attempts(_request(video_uri=video_uri, **options), on_progress, retries)
        while True:
            request, seconds = attempts.begin()
            call = self._stub.StreamAnalyzeVideo(request, timeout=seconds, metadata=_metadata(self._token))
            try:
                for response in call:
                    if (analysis := attempts.receive(response)) is not None:
                        return analysis
                raise _incomplete()
            except grpc.RpcError as error:
                backoff = attempts.backoff_after(error)
            finally:
                call.cancel()
            time.sleep(backoff)

    def redecode(
        self,
        stored: AnalyzeVideoResponse,
        *,
        on_retry: OnRetry = _ignore,
        timeout_seconds: float = TIMEOUT_SECONDS,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """As AsyncClient.redecode."""
        request, retries = _request(**options), _Retries(on_retry, timeout_seconds, self._attempts)
        while True:
            redecoding = Redecoding(stored, request)
            call = self._stub.RedecodeVideo(
                redecoding.requests(), timeout=retries.remaining_seconds(), metadata=_metadata(self._token)
            )
            try:
                for response in call:
                    redecoding.receive(response)
                return redecoding.result()
            except grpc.RpcError as error:
                backoff = retries.backoff_after(
                    error, has_started=redecoding.has_started, is_transient=_is_broken_off(error)
                )
            finally:
                redecoding.end()
                call.cancel()
            time.sleep(backoff)


def _request(**fields: Any) -> AnalyzeVideoRequest:
    """The request with an id: all calls of one analysis have the same in the service's log."""
    request = AnalyzeVideoRequest()
    for name, value in fields.items():
        try:
            request.MergeFrom(AnalyzeVideoRequest(**{name: value}))
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{name}: holds bytes that are not valid UTF-8", field=name) from error
    request.stream_id = request.stream_id or uuid.uuid4().hex
    return request


# Own code, not tenacity or stamina: progress restores the attempts, and the server sets the delay of a refusal.
class _Retries:
    """Whether a call that failed is made again, and when."""

    def __init__(self, on_retry: OnRetry, timeout_seconds: float, attempts: int) -> None:
        self._on_retry = on_retry
        self._deadline = time.monotonic() + timeout_seconds
        self._attempts = self._attempts_left = attempts
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    def remaining_seconds(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def restore(self) -> None:
        """After progress."""
        self._attempts_left, self._backoff_seconds = self._attempts, _FIRST_BACKOFF_SECONDS

    def backoff_after(
        self, error: grpc.RpcError, *, has_started: bool, is_transient: bool = False, resumes_at_seconds: float = 0.0
    ) -> float:
        """Seconds until the next call; raises ServiceError if the failure is final."""
        failure = from_rpc_error(error)
        is_overload = isinstance(failure, Overloaded)
        # gRPC itself returns RESOURCE_EXHAUSTED for a message over the size limit: retrying cannot help.
        is_transient |= carries_details(error) if is_overload else error.code() == grpc.StatusCode.UNAVAILABLE
        if not is_transient:
            raise failure from error
        if has_started or not is_overload:
            self._attempts_left -= 1
        backoff = self._backoff_seconds * random.uniform(0.5, 1)
        self._backoff_seconds = min(2 * self._backoff_seconds, _MAX_BACKOFF_SECONDS)
        if isinstance(failure, Overloaded):
            # The jitter spreads callers that were refused together.
            backoff += failure.retry_after_seconds
        if self._attempts_left <= 0 or backoff >= self.remaining_seconds():
            raise failure from error
        self._on_retry(failure, backoff, resumes_at_seconds)
        return backoff

    def restart_after(self, error: grpc.RpcError) -> None:
        """Another call at once, from the beginning; raises ServiceError after too many of them."""
        refusal = from_rpc_error(error)
        # Progress does not restore this attempt: two replicas that reject each other's tokens must not loop for ever.
        self._attempts -= 1
        self._attempts_left = min(self._attempts_left - 1, self._attempts)
        if self._attempts_left <= 0:
            raise refusal from error
        self._on_retry(refusal, 0.0, 0.0)


class _Attempts:
    """One analysis over several calls: the next request, the results so far, and whether a failure is final."""

    def __init__(self, request: AnalyzeVideoRequest, on_progress: OnProgress, retries: _Retries) -> None:
        self._request = request
        self._on_progress = on_progress
        self._retries = retries
        # Received so far, finished scenes only, and the token to resume from; empty: cannot resume.
        self._chunks: list[ChunkResult] = []
        self._scenes: list[Scene] = []
        self._token = b""
        # Chunks received before the current call, and whether the service may have started work on it.
        self._earlier_chunks = 0
        self._has_started = False

    def begin(self) -> tuple[StreamAnalyzeVideoRequest, float]:
        """The request of the next call and its time limit in seconds."""
        if not self._token:
            self._reset()
        self._earlier_chunks = len(self._chunks)
        self._has_started = False
        request = StreamAnalyzeVideoRequest(analysis=self._request, resume_token=self._token)
        return request, self._retries.remaining_seconds()

    def receive(self, response: StreamAnalyzeVideoResponse) -> VideoAnalysis | None:
        """The complete analysis after the last message, otherwise None."""
        event = response.WhichOneof("event")
        self._has_started |= event != "progress" or response.progress.stage != STAGE_WAITING
        match event:
            case "progress":
                self._on_progress(Progress.from_message(response.progress))
            case "chunk":
                if response.chunk.chunk_index == 0:
                    # The service restarted the video on another model: earlier results are of the old model.
                    self._reset()
                self._chunks.append(response.chunk)
                self._scenes += response.finished_scenes
                self._token = response.resume_token
                if self._token:
                    self._retries.restore()
            case "summary":
                return VideoAnalysis.from_message(self._merge(response.summary))
        return None

    def _reset(self) -> None:
        self._chunks, self._scenes, self._token = [], [], b""
        self._earlier_chunks = 0

    def _merge(self, summary: AnalyzeVideoResponse) -> AnalyzeVideoResponse:
        """The summary with what came before it, of all calls."""
        answer = AnalyzeVideoResponse(chunks=self._chunks, scenes=self._scenes)
        for chunk in self._chunks:
            answer.scene_changes.extend(chunk.scene_changes)
            answer.cuts.extend(chunk.cuts)
            answer.transitions.extend(chunk.transitions)
        answer.MergeFrom(summary)
        return answer

    def backoff_after(self, error: grpc.RpcError) -> float:
        """Seconds until the next call; raises ServiceError if the failure is final."""
        failure = from_rpc_error(error)
        is_from_service = carries_details(error)
        if self._earlier_chunks and is_from_service and failure.reason in _TOKEN_REJECTIONS:
            self._retries.restart_after(error)
            self._reset()
            return 0.0
        if self._request.output_uri and (self._has_started or not is_from_service):
            raise failure from error
        return self._retries.backoff_after(
            error,
            has_started=self._has_started or not is_from_service,
            # A program that was paused for a while goes on where it was.
            is_transient=bool(self._token) and failure.reason == ErrorReason.CALLER_TOO_SLOW,
            resumes_at_seconds=self._received_seconds() if self._token else 0.0,
        )

    def _received_seconds(self) -> float:
        return self._chunks[-1].start_seconds + self._chunks[-1].duration_seconds


def _is_broken_off(error: grpc.RpcError) -> bool:
    """Whether the call may have ended while a request was written, which gRPC reports as INTERNAL."""
    return error.code() == grpc.StatusCode.INTERNAL and not carries_details(error)


def _check_credentials(service: object, credentials: grpc.ChannelCredentials | None) -> None:
    if credentials is not None and not isinstance(service, str):
        raise ValueError("credentials: they go with an address; a channel has its own")


def _metadata(token: Token | None) -> list[tuple[str, str]]:
    if token is None:
        return []
    return [("authorization", f"Bearer {token if isinstance(token, str) else token()}")]


def _incomplete() -> Unavailable:
    return Unavailable("the service ended the call without a summary", reason=ErrorReason.INCOMPLETE_ANSWER)
