"""Converts errors to gRPC statuses with google.rpc details, and back."""

import math
from contextlib import suppress

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from videoanalysis.v1.error_reason_pb2 import ErrorReason

DOMAIN = "videoanalysis"
_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"

STATUS: dict[type[ServiceError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
}
_BY_CODE = {code: kind for kind, code in STATUS.items()}
_REASONS: dict[str, ErrorReason] = {name: getattr(ErrorReason, name) for name, _ in ErrorReason.items()}


def status_code(error: ServiceError) -> grpc.StatusCode:
    """The code of the nearest class of `error` in STATUS."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)


def trailing_metadata(error: ServiceError) -> tuple[tuple[str, str | bytes], ...]:
    """The google.rpc.Status of `error` as the trailing metadata in which gRPC carries it."""
    info = error_details_pb2.ErrorInfo(reason=error.reason_name, domain=DOMAIN)
    details: list[any_pb2.Any] = [any_pb2.Any()]
    if error.field is not None:
        info.metadata["field"] = error.field
    if isinstance(error, InvalidInput) and error.violations:
        request = error_details_pb2.BadRequest()
        for violation in error.violations:
            request.field_violations.add(field=violation.field, description=violation.message)
        details.append(_packed(request))
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_seconds * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    details[0] = _packed(info)
    code = code_pb2.Code.Value(status_code(error).name)
    status = status_pb2.Status(code=code, message=error.message, details=details)
    metadata: list[tuple[str, str | bytes]] = [(_DETAILS_KEY, status.SerializeToString())]
    if isinstance(error, Overloaded):
        # gRPC's own retries, which a caller's service config may enable, wait for this delay.
        metadata.append((_PUSHBACK_KEY, str(math.ceil(1000 * error.retry_after_seconds))))
    return tuple(metadata)


def from_rpc_error(error: grpc.RpcError) -> ServiceError:
    """The error that a server raised, from what its caller caught; codes without a class of their own are Unavailable.

    Takes grpc.aio.AioRpcError as well as the errors of a synchronous stub. If the status has no reason of this version,
    the error has the general reason of its code.
    """
    code: grpc.StatusCode = error.code()
    reason = ErrorReason.INTERNAL if code is grpc.StatusCode.INTERNAL else ErrorReason.ERROR_REASON_UNSPECIFIED
    if code is grpc.StatusCode.UNIMPLEMENTED and not carries_details(error):
        message = "the server does not have this method: it is another service, or an older release of this one"
    else:
        message = error.details() or code.name
    translated = _BY_CODE.get(code, Unavailable)(message, reason=reason)
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            # Intermediaries may have set it to anything.
            with suppress(DecodeError):
                _add_details(translated, status_pb2.Status.FromString(value))
    return translated


def carries_details(error: grpc.RpcError) -> bool:
    """Whether a service set this status; otherwise gRPC itself did, for a broken connection for example."""
    return any(key == _DETAILS_KEY for key, _ in error.trailing_metadata() or ())


def _add_details(error: ServiceError, status: status_pb2.Status) -> None:
    info, retry, request = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            # A newer server may send reasons that this version does not have.
            error.reason = _REASONS.get(info.reason, error.reason)
            error.field = info.metadata.get("field")
        elif detail.Unpack(retry) and isinstance(error, Overloaded):
            error.retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Unpack(request) and isinstance(error, InvalidInput):
            error.with_violations([FieldViolation(one.field, one.description) for one in request.field_violations])


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
