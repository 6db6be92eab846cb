"""The exit codes of the command line, those of sysexits.h and of timeout(1) where they have one."""

import signal
from enum import IntEnum

from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
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


class ExitCode(IntEnum):
    """`meaning` is for the documentation."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "All is done."
    FAILED = (
        1,
        "A check failed; a file of this machine cannot be read or written, or a disk is full; a local stack cannot "
        "start or ended; of several videos, some failed for different reasons.",
    )
    USAGE = 2, "An option, an argument or a file that one names is wrong; nothing was sent."
    INPUT = (
        65,
        "The service refuses the video or the request: `INVALID_ARGUMENT`, `NOT_FOUND`, `FAILED_PRECONDITION`. "
        "Change them.",
    )
    BUG = 70, "A bug: of the service, `INTERNAL`, or of this program, which prints a traceback then. Report it."
    RETRY = 75, "No service answers, or it is overloaded: `UNAVAILABLE`, `RESOURCE_EXHAUSTED`. Try again later."
    PERMISSION = 77, "Not allowed: `UNAUTHENTICATED`, `PERMISSION_DENIED`."
    DEADLINE = 124, "The time limit passed: `DEADLINE_EXCEEDED`. Allow more time."
    SIGHUP = 128 + signal.SIGHUP, "The terminal was closed."
    SIGINT = 128 + signal.SIGINT, "Ctrl-C."
    SIGPIPE = 128 + signal.SIGPIPE, "The program that reads stdout has ended."
    SIGTERM = 128 + signal.SIGTERM, "SIGTERM; `up` exits with 0 then."


_BY_ERROR: dict[type[ServiceError], ExitCode] = {
    InvalidInput: ExitCode.INPUT,
    NotFound: ExitCode.INPUT,
    FailedPrecondition: ExitCode.INPUT,
    Unauthenticated: ExitCode.PERMISSION,
    PermissionDenied: ExitCode.PERMISSION,
    Overloaded: ExitCode.RETRY,
    Unavailable: ExitCode.RETRY,
    DeadlineExceeded: ExitCode.DEADLINE,
    Unimplemented: ExitCode.USAGE,
}


def exit_code(error: ServiceError) -> ExitCode:
    if error.reason == ErrorReason.INTERNAL:
        return ExitCode.BUG
    return next((_BY_ERROR[kind] for kind in type(error).__mro__ if kind in _BY_ERROR), ExitCode.FAILED)
