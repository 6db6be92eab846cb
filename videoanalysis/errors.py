"""What can go wrong: one exception class for each gRPC status a caller may get, without gRPC itself.

    ServiceError
    ├── InvalidInput          INVALID_ARGUMENT     the caller must change the request
    ├── NotFound              NOT_FOUND            the object or bucket does not exist
    ├── PermissionDenied      PERMISSION_DENIED    not allowed, by storage or by the operator
    ├── FailedPrecondition    FAILED_PRECONDITION  not in this state: another model, an object over the limit
    ├── Overloaded            RESOURCE_EXHAUSTED   try again after `retry_after_seconds`
    ├── Unavailable           UNAVAILABLE          a service behind this one does not answer, or this one is draining
    └── DeadlineExceeded      DEADLINE_EXCEEDED    the caller's time is up

`videoanalysis.status` maps them to gRPC statuses and back. Anything else that leaves a handler is a bug: it is logged
and answered as a bare INTERNAL.
"""

from typing import ClassVar

from videoanalysis.v1.error_reason_pb2 import ErrorReason

# A status travels as metadata, of which gRPC takes 8 KiB, and carries the message three times, percent-encoded or in
# base 64. Beyond that the caller would see RESOURCE_EXHAUSTED, whatever the error was.
_MAX_MESSAGE_BYTES = 1000


class ServiceError(Exception):
    """A failure that the caller is told about.

    `reason` is for programs; left out, it is the general one of the class. `field` is the request field to change.
    A message over 1000 bytes is cut.
    """

    default_reason: ClassVar[ErrorReason] = ErrorReason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: ErrorReason = ErrorReason.ERROR_REASON_UNSPECIFIED,
        field: str | None = None,
    ) -> None:
        encoded = message.encode(errors="replace")
        if len(encoded) > _MAX_MESSAGE_BYTES:
            encoded = encoded[: _MAX_MESSAGE_BYTES - 3] + "…".encode()
        self.message = encoded.decode(errors="ignore")
        super().__init__(self.message)
        self.reason = reason or self.default_reason
        self.field = field

    @property
    def reason_name(self) -> str:
        """The reason as logs, metrics and google.rpc.ErrorInfo have it."""
        return ErrorReason.Name(self.reason)


class InvalidInput(ServiceError):
    default_reason = ErrorReason.INVALID_INPUT


class NotFound(ServiceError):
    default_reason = ErrorReason.NOT_FOUND


class PermissionDenied(ServiceError):
    default_reason = ErrorReason.PERMISSION_DENIED


class FailedPrecondition(ServiceError):
    default_reason = ErrorReason.FAILED_PRECONDITION


class Overloaded(ServiceError):
    default_reason = ErrorReason.OVERLOADED

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float = 1.0,
        reason: ErrorReason = ErrorReason.ERROR_REASON_UNSPECIFIED,
        field: str | None = None,
    ) -> None:
        super().__init__(message, reason=reason, field=field)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(ServiceError):
    default_reason = ErrorReason.UNAVAILABLE


class DeadlineExceeded(ServiceError):
    default_reason = ErrorReason.DEADLINE_EXCEEDED
