import grpc
import pytest

from services.ingress.dispatch.failures import FailedAttempt, from_attempt
from videoanalysis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Overloaded,
    ServiceError,
    Unavailable,
)
from videoanalysis.status import status_code, trailing_metadata
from videoanalysis.v1.error_reason_pb2 import ErrorReason

Code = grpc.StatusCode


def reported(error: ServiceError) -> grpc.aio.AioRpcError:
    """What the caller of a service of ours catches when that raises `error`."""
    return grpc.aio.AioRpcError(
        status_code(error), grpc.aio.Metadata(), grpc.aio.Metadata(*trailing_metadata(error)), error.message
    )


def bare(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "of gRPC itself")


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("busy", reason=ErrorReason.ENCODER_BUSY, retry_after_seconds=0.25),
        Unavailable("no bank", reason=ErrorReason.BANK_NOT_READY),
        FailedPrecondition("another model", reason=ErrorReason.MODEL_MISMATCH),
        FailedPrecondition("another version", reason=ErrorReason.TEXT_BANK_REPLACED),
        DeadlineExceeded("no bytes came", reason=ErrorReason.UPLOAD_TOO_SLOW),
    ],
)
def test_a_status_with_a_reason_of_ours_means_what_it_says(error: ServiceError):
    found = from_attempt(reported(error))
    assert (type(found), found.reason, found.message) == (type(error), error.reason, error.message)
    if isinstance(found, Overloaded):
        assert found.retry_after_seconds == 0.25


def test_a_bare_unavailable_is_believed():
    assert type(from_attempt(bare(Code.UNAVAILABLE))) is Unavailable


@pytest.mark.parametrize(
    "code",
    [
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.CANCELLED,
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.RESOURCE_EXHAUSTED,  # a message over a limit of gRPC: ours are not, so the answer is
    ],
)
def test_any_other_status_of_grpc_is_a_failed_attempt(code: grpc.StatusCode):
    failed = from_attempt(bare(code))
    assert isinstance(failed, FailedAttempt)
    assert not failed.timed_out


def test_an_attempt_that_runs_out_of_its_time_has_timed_out():
    failed = from_attempt(bare(Code.DEADLINE_EXCEEDED))
    assert isinstance(failed, FailedAttempt)
    assert failed.timed_out


@pytest.mark.parametrize("error", [InvalidInput("bad", field="header.frames"), InvalidInput("bad"), NotFound("gone")])
def test_a_replica_that_blames_what_the_caller_did_not_send_has_failed(error: ServiceError):
    assert isinstance(from_attempt(reported(error)), FailedAttempt)


def test_a_replica_that_blames_a_field_of_the_caller_is_believed_and_the_field_is_the_callers():
    found = from_attempt(reported(InvalidInput("unknown bank", field="ranking.text_bank")))
    assert (type(found), found.field) == (InvalidInput, "text_bank")
