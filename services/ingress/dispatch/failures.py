"""The outcomes of an attempt at a replica, and which of its statuses are accepted as they are.

Those are a status with one of our reasons, and a bare UNAVAILABLE. Any other status is a failed attempt: it counts
against the replica, and the call is repeated on another. A replica's status reaches the caller only if it names a field
of the caller's request.
"""

import grpc

from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    Overloaded,
    ServiceError,
    Unavailable,
)
from videoanalysis.status import carries_details, from_rpc_error
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# The replica does not have the model or the version of a text bank that another one may have.
MISSING = frozenset({ErrorReason.MODEL_MISMATCH, ErrorReason.TEXT_BANK_REPLACED})
# Answers that a retry after a backoff would not change, since all replicas are expected to give the same one.
FINAL = frozenset({ErrorReason.BANK_NOT_READY, ErrorReason.TEXT_BANK_NOT_FOUND, ErrorReason.IMAGE_SIZE_MISMATCH})
# Fields of DecoderService that are set from the caller's request, and the caller's name of each.
_CALLER_FIELDS = {
    "ranking.labels.texts": "labels",
    "ranking.text_bank": "text_bank",
    "text_bank": "text_bank",
    "ranking.top_k_tags": "top_k_tags",
    "ranking.min_probability": "min_probability",
    "scene.detection": "scene_detection",
    "scene.threshold": "scene_threshold",
    "scene.ema_alpha": "ema_alpha",
}


class FailedAttempt(Unavailable):
    """The replica accepted the work and failed: it broke, timed out (`timed_out`) or sent a malformed answer."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message, reason=ErrorReason.NO_RESPONSE if timed_out else ErrorReason.UNAVAILABLE)
        self.timed_out = timed_out


class Unresponsive(Unavailable):
    """The replica sent nothing before it accepted the work."""

    default_reason = ErrorReason.NO_RESPONSE


class NoLongerServed(FailedPrecondition):
    """No replica that answers has the required model, or version of a text bank."""

    default_reason = ErrorReason.MODEL_MISMATCH


def from_attempt(error: grpc.RpcError) -> ServiceError:
    """What an attempt that raised `error` ended with."""
    code: grpc.StatusCode = error.code()
    failed = FailedAttempt(f"{code.name}: {error.details()}", timed_out=code is grpc.StatusCode.DEADLINE_EXCEEDED)
    if not carries_details(error):
        return from_rpc_error(error) if code is grpc.StatusCode.UNAVAILABLE else failed
    reported = from_rpc_error(error)
    match reported:
        case Overloaded() | Unavailable():
            return reported
        case DeadlineExceeded() if reported.reason == ErrorReason.UPLOAD_TOO_SLOW:
            return reported
        case FailedPrecondition() if reported.reason in MISSING:
            return reported
        case InvalidInput() | FailedPrecondition() if reported.field in _CALLER_FIELDS:
            reported.field = _CALLER_FIELDS[reported.field]
            return reported
        case _:
            return failed
