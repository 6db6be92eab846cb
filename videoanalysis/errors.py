"""What can go wrong, each with the gRPC status it becomes.

    ServiceError
    ├── InvalidInput          INVALID_ARGUMENT     the caller must change the request
    ├── NotFound              NOT_FOUND            the object or bucket does not exist
    ├── PermissionDenied      PERMISSION_DENIED    not allowed, by storage or by the operator
    ├── FailedPrecondition    FAILED_PRECONDITION  not in this state: another model, an object over the limit
    ├── Overloaded            RESOURCE_EXHAUSTED   try again after `retry_after_seconds`
    ├── Unavailable           UNAVAILABLE          something behind us is away, or we are draining
    └── DeadlineExceeded      DEADLINE_EXCEEDED    the caller's time is up

Anything else that leaves a handler is a bug: it is logged and answered as a bare INTERNAL.
"""

from contextlib import suppress

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "videoanalysis"
_DETAILS_KEY = "grpc-status-details-bin"
# A status travels as metadata, of which gRPC takes 8 KiB, and carries the message three times, percent-encoded or in
# base 64. Beyond that the caller would see RESOURCE_EXHAUSTED, whatever the error was.
_MAX_MESSAGE_BYTES = 1000


class ServiceError(Exception):
    """A failure that the caller is told about.

    `reason` is an UPPER_SNAKE word for programs, `field` the request field to blame. A message over 1000 bytes is cut.
    """

    default_reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, field: str | None = None) -> None:
        encoded = message.encode(errors="replace")
        if len(encoded) > _MAX_MESSAGE_BYTES:
            encoded = encoded[: _MAX_MESSAGE_BYTES - 3] + "…".encode()
        self.message = encoded.decode(errors="ignore")
        super().__init__(self.message)
        self.reason = reason or self.default_reason
        self.field = field


class InvalidInput(ServiceError):
    default_reason = "INVALID_INPUT"


class NotFound(ServiceError):
    default_reason = "NOT_FOUND"


class PermissionDenied(ServiceError):
    default_reason = "PERMISSION_DENIED"


class FailedPrecondition(ServiceError):
    default_reason = "FAILED_PRECONDITION"


class Overloaded(ServiceError):
    default_reason = "OVERLOADED"

    def __init__(
        self, message: str, *, retry_after_seconds: float = 1.0, reason: str | None = None, field: str | None = None
    ) -> None:
        super().__init__(message, reason=reason, field=field)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(ServiceError):
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(ServiceError):
    default_reason = "DEADLINE_EXCEEDED"


STATUS: dict[type[ServiceError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_BY_CODE = {code: kind for kind, code in STATUS.items()}


def status_code(error: ServiceError) -> grpc.StatusCode:
    """The code of the nearest class of `error` in STATUS."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)


def trailing_metadata(error: ServiceError) -> tuple[tuple[str, bytes], ...]:
    """The google.rpc.Status of `error` as the trailing metadata in which gRPC carries it."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    details: list[any_pb2.Any] = [any_pb2.Any()]
    if error.field is not None:
        info.metadata["field"] = error.field
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_seconds * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    details[0] = _packed(info)
    code = code_pb2.Code.Value(status_code(error).name)
    status = status_pb2.Status(code=code, message=error.message, details=details)
    return ((_DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(error: grpc.RpcError) -> ServiceError:
    """The error that a server raised, from what its caller caught; codes without a class of their own are Unavailable.

    Takes grpc.aio.AioRpcError as well as what a synchronous stub raises.
    """
    code: grpc.StatusCode = error.code()
    kind = _BY_CODE.get(code, Unavailable)
    translated = kind(error.details() or code.name, reason=None if code in _BY_CODE else code.name)
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            # What others put there may be anything.
            with suppress(DecodeError):
                _add_details(translated, status_pb2.Status.FromString(value))
    return translated


def carries_details(error: grpc.RpcError) -> bool:
    """Whether a server of ours said so; otherwise it is gRPC's own word, of a broken connection for example."""
    return any(key == _DETAILS_KEY for key, _ in error.trailing_metadata() or ())


def _add_details(error: ServiceError, status: status_pb2.Status) -> None:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            error.reason = info.reason
            error.field = info.metadata.get("field")
        elif detail.Unpack(retry) and isinstance(error, Overloaded):
            error.retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
