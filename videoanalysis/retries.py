"""Decides whether a failed call of the client is retried, and after which backoff."""

import random
import time
from collections.abc import Callable

import grpc

from videoanalysis.errors import DeadlineExceeded, Overloaded, ServiceError
from videoanalysis.status import carries_details, from_rpc_error

# Called with the error, the seconds until the next call, and the second of the video at which it resumes.
OnRetry = Callable[[ServiceError, float, float], None]

# Fewer failures than this never end an analysis, however long each call took.
_MIN_FAILURES = 5
_MAX_RESTARTS = 5
_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 10.0
# gRPC's message for a connection that ended while the call ran, by status code.
_BROKEN_CONNECTIONS = {grpc.StatusCode.UNKNOWN: "Stream removed", grpc.StatusCode.INTERNAL: "RST_STREAM"}


# Own code, not tenacity or stamina: progress resets the count of failures, and the server sets the delay of a refusal.
class Retries:
    """The retries of one analysis. A failure is final after `retry_timeout_seconds` without progress; at once if 0.

    Refusals for overload are retried until `timeout_seconds`.
    """

    def __init__(self, on_retry: OnRetry | None, timeout_seconds: float, retry_timeout_seconds: float) -> None:
        self._on_retry = on_retry
        self._timeout_seconds = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._retry_timeout_seconds = retry_timeout_seconds
        self._restarts_left = _MAX_RESTARTS if retry_timeout_seconds else 0
        self._failures, self._failing_since = 0, 0.0
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    def remaining_seconds(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def reset(self) -> None:
        """Call it after progress: earlier failures no longer count."""
        self._failures, self._failing_since = 0, 0.0
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    def failure(self, error: grpc.RpcError) -> ServiceError:
        if self.remaining_seconds() <= 0 and not carries_details(error):
            # gRPC's own message depends on the state of the connection.
            return DeadlineExceeded(f"the time limit of {self._timeout_seconds:g} s has passed")
        return from_rpc_error(error)

    def backoff_after(
        self,
        failure: ServiceError,
        error: grpc.RpcError,
        *,
        has_started: bool,
        is_transient: bool = False,
        resumes_at_seconds: float = 0.0,
    ) -> float:
        """Seconds until the next call; raises `failure`, the ServiceError of `error`, if it is final."""
        is_overload = isinstance(failure, Overloaded)
        # gRPC itself returns RESOURCE_EXHAUSTED for a message over the size limit: retrying cannot help.
        is_transient |= carries_details(error) if is_overload else _is_unavailable(error)
        if not is_transient or (isinstance(failure, DeadlineExceeded) and self.remaining_seconds() <= 0):
            raise failure from error
        if (has_started or not is_overload) and self._is_retry_timeout_over():
            raise failure from error
        backoff = self._backoff_seconds * random.uniform(0.5, 1)
        self._backoff_seconds = min(2 * self._backoff_seconds, _MAX_BACKOFF_SECONDS)
        if isinstance(failure, Overloaded):
            # The jitter spreads callers that were refused together.
            backoff += failure.retry_after_seconds
        if backoff >= self.remaining_seconds():
            raise failure from error
        self._report(failure, backoff, resumes_at_seconds)
        return backoff

    def restart_after(self, failure: ServiceError, error: grpc.RpcError) -> None:
        """Another call at once, from the beginning; raises `failure` after too many of them."""
        # Progress does not reset it: with two replicas that reject each other's tokens the loop would never end.
        if not self._restarts_left:
            raise failure from error
        self._restarts_left -= 1
        self._report(failure, 0.0, 0.0)

    def _report(self, failure: ServiceError, backoff: float, resumes_at_seconds: float) -> None:
        if self._on_retry:
            self._on_retry(failure, backoff, resumes_at_seconds)

    def _is_retry_timeout_over(self) -> bool:
        now = time.monotonic()
        self._failures += 1
        self._failing_since = self._failing_since or now
        if not self._retry_timeout_seconds:
            return True
        return self._failures >= _MIN_FAILURES and now - self._failing_since >= self._retry_timeout_seconds


def _is_unavailable(error: grpc.RpcError) -> bool:
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return True
    words = _BROKEN_CONNECTIONS.get(code)
    return words is not None and words in (error.details() or "")
