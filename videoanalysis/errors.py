"""The errors of the services: one exception class for each gRPC status that a caller may get; independent of gRPC.

    ServiceError
    ├── InvalidInput          INVALID_ARGUMENT     the caller must change the request
    ├── NotFound              NOT_FOUND            the object or bucket does not exist
    ├── Unauthenticated       UNAUTHENTICATED      no valid token
    ├── PermissionDenied      PERMISSION_DENIED    not allowed, by storage or by the operator
    ├── FailedPrecondition    FAILED_PRECONDITION  not in this state: another model, an object over the limit
    ├── Overloaded            RESOURCE_EXHAUSTED   try again after `retry_after_seconds`
    ├── Unavailable           UNAVAILABLE          a service behind this one does not answer, or this one is draining
    ├── DeadlineExceeded      DEADLINE_EXCEEDED    the caller's time is up
    └── Unimplemented         UNIMPLEMENTED        the server does not have the method; our services never send it

`videoanalysis.status` maps them to gRPC statuses and back. Anything else that leaves a handler is a bug: it is logged
and answered as a bare INTERNAL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from videoanalysis.v1.error_reason_pb2 import ErrorReason

# A status travels as metadata, of which gRPC takes 8 KiB, and carries the message three times, percent-encoded or in
# base 64. Beyond that the caller would see RESOURCE_EXHAUSTED, whatever the error was.
_MAX_MESSAGE_BYTES = 1000


class ServiceError(Exception):
    """A failure that is reported to the caller.

    `reason` is for programs; left out, it is the general one of the class. `field` is the request field to change.
    A message over 1000 bytes is cut.
    """

    default_reason: ClassVar[ErrorReason] = ErrorReason.INTERNAL
    # For callers of the client library: the PartialAnalysis from which the analysis that failed can continue.
    partial: Any = None

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
        self.details: dict[str, object] = {}
        """For the log, never for callers."""

    @property
    def reason_name(self) -> str:
        """The reason as logs, metrics and google.rpc.ErrorInfo have it."""
        return ErrorReason.Name(self.reason)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of a request."""

    field: str
    message: str


class InvalidInput(ServiceError):
    """`violations` are all that is wrong with the request; `field` is the first of their fields."""

    default_reason = ErrorReason.INVALID_INPUT
    _violations: tuple[FieldViolation, ...] = ()

    @property
    def violations(self) -> tuple[FieldViolation, ...]:
        if self._violations or self.field is None:
            return self._violations
        return (FieldViolation(self.field, self.message),)

    def with_violations(self, violations: Sequence[FieldViolation]) -> Self:
        """This error with those of `violations` that fit into the bound on a message."""
        kept: list[FieldViolation] = []
        free = _MAX_MESSAGE_BYTES
        for violation in violations:
            free -= len(violation.field.encode()) + len(violation.message.encode())
            if free < 0:
                break
            kept.append(violation)
        self._violations = tuple(kept)
        return self


class Violations:
    """Collects all violations of a request, so that they are reported in one error.

    As a context manager it collects the InvalidInput that is raised inside.
    """

    def __init__(self) -> None:
        self._errors: list[InvalidInput] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, InvalidInput):
            self._errors.append(error)
        return isinstance(error, InvalidInput)

    def require(self, condition: bool, field: str, problem: str) -> None:
        if not condition:
            self._errors.append(InvalidInput(f"{field}: {problem}", field=field))

    def check(self) -> None:
        """Raises one InvalidInput for all that was collected, if anything was."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            reasons = {error.reason for error in self._errors}
            raise InvalidInput(
                "; ".join(error.message for error in self._errors),
                reason=reasons.pop() if len(reasons) == 1 else ErrorReason.INVALID_INPUT,
                field=self._errors[0].field,
            ).with_violations([violation for error in self._errors for violation in error.violations])


class NotFound(ServiceError):
    default_reason = ErrorReason.NOT_FOUND


class Unauthenticated(ServiceError):
    default_reason = ErrorReason.UNAUTHENTICATED


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


class Unimplemented(ServiceError):
    default_reason = ErrorReason.UNIMPLEMENTED
