"""Client library of the service: `AsyncClient` for an event loop, `Client` for synchronous code.

Transient failures are retried within the time limit: overload after the delay that the service requests,
unavailability until `retry_timeout_seconds` have passed without progress. An analysis is idempotent, so it is retried
at any point: it resumes after the last chunk received, on any replica, if the service issues resume tokens, and
restarts otherwise. An analysis with an `output_uri`, to which it writes, is retried only if the service refused it
before starting.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, Self, Unpack

import grpc

from videoanalysis import channels
from videoanalysis.analysis_options import AnalysisOptions, request_of
from videoanalysis.attempts import Attempts, OnChunk, OnProgress
from videoanalysis.call_metadata import CallMetadata, Metadata, Token, call_metadata
from videoanalysis.partial_analysis import PartialAnalysis
from videoanalysis.redecoding import Redecoding
from videoanalysis.retries import OnRetry, Retries
from videoanalysis.status import carries_details, from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ListBanksRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub
from videoanalysis.video_analysis import TextBank, VideoAnalysis

# The default limit of the service.
TIMEOUT_SECONDS = 3600.0
# Long enough for a replica to be replaced and its name to be resolved again.
RETRY_TIMEOUT_SECONDS = 60.0
LIST_SECONDS = 30.0
_OPTIONS = [
    *channels.OPTIONS,
    # If all known replicas are gone, DNS is resolved again sooner than after gRPC's 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    channels.READY_REPLICAS,
]


class AsyncClient:
    """Calls the service at host:port over one connection, opened by the first call; runs many analyses concurrently.

    `credentials` are for TLS, by `grpc.ssl_channel_credentials` for example; without them the connection is plaintext.
    `token` and `metadata` go with every call. `interceptors` are those of `grpc.aio`. Instead of an address it takes a
    channel with other options, and leaves it open. An analysis fails after `retry_timeout_seconds` and five failed
    calls without progress, or with the first failed call if that is 0; refusals for overload do not count, the client
    waits and retries.
    """

    def __init__(
        self,
        service: str | grpc.aio.Channel,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        metadata: CallMetadata = (),
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        retry_timeout_seconds: float = RETRY_TIMEOUT_SECONDS,
    ) -> None:
        _check_channel(service, credentials, interceptors)
        self._service = service
        self._credentials = credentials
        self._token = token
        self._call_metadata = metadata
        self._interceptors = interceptors
        self._retry_timeout_seconds = retry_timeout_seconds
        self._own_channel: Any = None
        self._stub: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection and cancels calls in progress. A later call connects again."""
        channel, self._own_channel, self._stub = self._own_channel, None, None
        if channel is not None:
            await channel.close()

    async def analyze(
        self,
        video_uri: str,
        *,
        on_progress: OnProgress | None = None,
        on_chunk: OnChunk | None = None,
        on_retry: OnRetry | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        traceparent: str | None = None,
        partial: PartialAnalysis | None = None,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """Analyses a video of any length; `video_uri` must be readable by the service.

        `options` are fields of AnalyzeVideoRequest. All times of the result are seconds from the first frame of the
        video. With `include_embeddings` each chunk has `embeddings`, float16 [frames, embedding_dim] with unit rows.

        `on_chunk` is called with each chunk as it arrives; chunk 0 again means that the analysis has restarted.
        `on_retry` is called with the error, the seconds until the next call and the second of the video at which it
        resumes. `traceparent` is that of W3C Trace Context; without it the call joins the current span of
        OpenTelemetry, if there is one. `partial` receives each chunk; one of an interrupted analysis continues it.

        Raises a ServiceError, whose `partial` has the chunks received so far: InvalidInput (the request, or the file is
        no video), NotFound, PermissionDenied, Unauthenticated, FailedPrecondition, and after retries Overloaded,
        Unavailable, or DeadlineExceeded after `timeout_seconds`. Cancellation, or an exception of a callback, also
        cancels the work in the service.
        """
        retries = Retries(on_retry, timeout_seconds, self._retry_timeout_seconds)
        request, partial = request_of(options, video_uri=video_uri), partial or PartialAnalysis()
        attempts = Attempts(request, partial, retries, on_progress=on_progress, on_chunk=on_chunk)
        while True:
            message, seconds = attempts.begin()
            call = self._connected().StreamAnalyzeVideo(message, timeout=seconds, metadata=self._metadata(traceparent))
            try:
                async for response in call:
                    if (analysis := attempts.receive(response)) is not None:
                        return analysis
                raise attempts.incomplete()
            except grpc.RpcError as error:
                backoff = attempts.backoff_after(error)
            finally:
                call.cancel()
            await asyncio.sleep(backoff)

    async def redecode(
        self,
        stored: AnalyzeVideoResponse,
        *,
        on_retry: OnRetry | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        traceparent: str | None = None,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """The answer for the video of `stored`, with another text bank, other labels or thresholds.

        `stored` is the `message` of an analysis with `include_embeddings`: float16 or float32 [frames, embedding_dim]
        for each chunk. Options about sampling have no effect. Raises InvalidInput if `stored` has no embeddings,
        FailedPrecondition if the text bank is of another model, and the ServiceErrors of `analyze`.
        """
        retries = Retries(on_retry, timeout_seconds, self._retry_timeout_seconds)
        request = request_of(options)
        while True:
            redecoding = Redecoding(stored, request)
            seconds, metadata = retries.remaining_seconds(), self._metadata(traceparent)
            call = self._connected().RedecodeVideo(redecoding.requests_async(), timeout=seconds, metadata=metadata)
            try:
                async for response in call:
                    redecoding.receive(response)
                return redecoding.result()
            except grpc.RpcError as error:
                backoff = retries.backoff_after(
                    retries.failure(error),
                    error,
                    has_started=redecoding.has_started,
                    is_transient=_is_broken_off(error),
                )
            finally:
                redecoding.end()
                call.cancel()
            await asyncio.sleep(backoff)

    async def list_banks(self, *, timeout_seconds: float = LIST_SECONDS) -> list[TextBank]:
        """The text banks that the option `text_bank` can name. Raises ServiceError; a failure is not retried."""
        try:
            response = await self._connected().ListBanks(
                ListBanksRequest(), timeout=timeout_seconds, metadata=self._metadata(None)
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return [TextBank.from_message(bank) for bank in response.text_banks]

    def _connected(self) -> Any:
        if self._stub is None:
            channel = self._service
            if isinstance(channel, str):
                arguments: dict[str, Any] = {"options": _OPTIONS, "interceptors": self._interceptors}
                channel = self._own_channel = (
                    grpc.aio.insecure_channel(channel, **arguments)
                    if self._credentials is None
                    else grpc.aio.secure_channel(channel, self._credentials, **arguments)
                )
            self._stub = VideoAnalysisServiceStub(channel)  # type: ignore[no-untyped-call]
        return self._stub

    def _metadata(self, traceparent: str | None) -> Metadata:
        return call_metadata(self._token, self._call_metadata, traceparent)


class Client:
    """The synchronous AsyncClient, with the same arguments; safe to use from many threads.

    `interceptors` are those of `grpc`.
    """

    def __init__(
        self,
        service: str | grpc.Channel,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        metadata: CallMetadata = (),
        interceptors: Sequence[Any] = (),
        retry_timeout_seconds: float = RETRY_TIMEOUT_SECONDS,
    ) -> None:
        _check_channel(service, credentials, interceptors)
        self._service = service
        self._credentials = credentials
        self._token = token
        self._call_metadata = metadata
        self._interceptors = interceptors
        self._retry_timeout_seconds = retry_timeout_seconds
        self._own_channel: Any = None
        self._stub: Any = None
        self._connecting = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and cancels calls in progress. A later call connects again."""
        with self._connecting:
            channel, self._own_channel, self._stub = self._own_channel, None, None
        if channel is not None:
            channel.close()

    def analyze(
        self,
        video_uri: str,
        *,
        on_progress: OnProgress | None = None,
        on_chunk: OnChunk | None = None,
        on_retry: OnRetry | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        traceparent: str | None = None,
        partial: PartialAnalysis | None = None,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """Analyses a video of any length; `video_uri` must be readable by the service.

        Blocks for at most `timeout_seconds`. Arguments, result and errors are those of AsyncClient.analyze: times are
        seconds from the first frame; a failure raises a ServiceError, whose `partial` has the chunks received so far.
        """
        retries = Retries(on_retry, timeout_seconds, self._retry_timeout_seconds)
        request, partial = request_of(options, video_uri=video_uri), partial or PartialAnalysis()
        attempts = Attempts(request, partial, retries, on_progress=on_progress, on_chunk=on_chunk)
        while True:
            message, seconds = attempts.begin()
            call = self._connected().StreamAnalyzeVideo(message, timeout=seconds, metadata=self._metadata(traceparent))
            try:
                for response in call:
                    if (analysis := attempts.receive(response)) is not None:
                        return analysis
                raise attempts.incomplete()
            except grpc.RpcError as error:
                backoff = attempts.backoff_after(error)
            finally:
                call.cancel()
            time.sleep(backoff)

    def redecode(
        self,
        stored: AnalyzeVideoResponse,
        *,
        on_retry: OnRetry | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        traceparent: str | None = None,
        **options: Unpack[AnalysisOptions],
    ) -> VideoAnalysis:
        """The answer for the video of `stored`, with another text bank, other labels or thresholds.

        Blocks for at most `timeout_seconds`. Arguments, result and errors are those of AsyncClient.redecode.
        """
        retries = Retries(on_retry, timeout_seconds, self._retry_timeout_seconds)
        request = request_of(options)
        while True:
            redecoding = Redecoding(stored, request)
            seconds, metadata = retries.remaining_seconds(), self._metadata(traceparent)
            call = self._connected().RedecodeVideo(redecoding.requests(), timeout=seconds, metadata=metadata)
            try:
                for response in call:
                    redecoding.receive(response)
                return redecoding.result()
            except grpc.RpcError as error:
                backoff = retries.backoff_after(
                    retries.failure(error),
                    error,
                    has_started=redecoding.has_started,
                    is_transient=_is_broken_off(error),
                )
            finally:
                redecoding.end()
                call.cancel()
            time.sleep(backoff)

    def list_banks(self, *, timeout_seconds: float = LIST_SECONDS) -> list[TextBank]:
        """The text banks that the option `text_bank` can name. Raises ServiceError; a failure is not retried."""
        try:
            response = self._connected().ListBanks(
                ListBanksRequest(), timeout=timeout_seconds, metadata=self._metadata(None)
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return [TextBank.from_message(bank) for bank in response.text_banks]

    def _connected(self) -> Any:
        with self._connecting:
            if self._stub is None:
                channel = self._service
                if isinstance(channel, str):
                    channel = self._own_channel = (
                        grpc.insecure_channel(channel, options=_OPTIONS)
                        if self._credentials is None
                        else grpc.secure_channel(channel, self._credentials, options=_OPTIONS)
                    )
                    channel = grpc.intercept_channel(channel, *self._interceptors)
                self._stub = VideoAnalysisServiceStub(channel)  # type: ignore[no-untyped-call]
            return self._stub

    def _metadata(self, traceparent: str | None) -> Metadata:
        return call_metadata(self._token, self._call_metadata, traceparent)


def _is_broken_off(error: grpc.RpcError) -> bool:
    """Whether the call may have ended while a request was written, which gRPC reports as INTERNAL."""
    return error.code() is grpc.StatusCode.INTERNAL and not carries_details(error)


def _check_channel(service: object, credentials: object, interceptors: object) -> None:
    if isinstance(service, str):
        return
    for name, value in (("credentials", credentials), ("interceptors", interceptors)):
        if value:
            raise ValueError(f"{name}: they go with an address; a channel has its own")
