"""Errors on their way from a handler to a caller, through a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from videoanalysis.calls import CallInterceptor
from videoanalysis.channels import connect
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
    Violations,
)
from videoanalysis.status import STATUS, from_rpc_error, status_code, trailing_metadata
from videoanalysis.v1.error_reason_pb2 import ErrorReason

METHOD = "/videoanalysis.test/fail"

# The contract, written down a second time: a change here breaks callers.
TABLE = [
    (InvalidInput, "INVALID_ARGUMENT", ErrorReason.INVALID_INPUT),
    (NotFound, "NOT_FOUND", ErrorReason.NOT_FOUND),
    (Unauthenticated, "UNAUTHENTICATED", ErrorReason.UNAUTHENTICATED),
    (PermissionDenied, "PERMISSION_DENIED", ErrorReason.PERMISSION_DENIED),
    (FailedPrecondition, "FAILED_PRECONDITION", ErrorReason.FAILED_PRECONDITION),
    (Overloaded, "RESOURCE_EXHAUSTED", ErrorReason.OVERLOADED),
    (Unavailable, "UNAVAILABLE", ErrorReason.UNAVAILABLE),
    (DeadlineExceeded, "DEADLINE_EXCEEDED", ErrorReason.DEADLINE_EXCEEDED),
    (Unimplemented, "UNIMPLEMENTED", ErrorReason.UNIMPLEMENTED),
]
KINDS = [kind for kind, _, _ in TABLE]


class BankMissing(Unavailable):
    default_reason = ErrorReason.BANK_NOT_READY


@asynccontextmanager
async def failing(error: Exception) -> AsyncIterator[str]:
    """The address of a server whose method raises `error`."""

    async def fail(request, context):
        raise error

    server = grpc.aio.server(interceptors=[CallInterceptor()])
    handler = grpc.unary_unary_rpc_method_handler(fail)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("videoanalysis.test", {"fail": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def caught(error: Exception) -> grpc.aio.AioRpcError:
    """What a caller catches of `error`."""
    async with failing(error) as address, connect(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(METHOD)(b"", timeout=10)
    return raised.value


def test_the_table_has_every_kind_of_error():
    assert set(KINDS) == set(STATUS) == set(ServiceError.__subclasses__())


@pytest.mark.parametrize(("kind", "code", "reason"), TABLE)
def test_each_kind_has_its_status_and_its_reason(kind, code, reason):
    assert status_code(kind("")).name == code
    assert kind("").reason == reason


def test_a_kind_derived_from_another_has_the_status_of_the_nearest():
    assert status_code(BankMissing("")) == grpc.StatusCode.UNAVAILABLE
    assert status_code(ServiceError("")) == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_arrives_as_it_was_raised(kind):
    error = from_rpc_error(
        await caught(
            kind("ümlaut: 7 is over 6", reason=ErrorReason.TOO_MANY_DECODE_FAILURES, field="ranking.top_k_tags")
        )
    )
    assert type(error) is kind
    assert (error.message, str(error)) == ("ümlaut: 7 is over 6", "ümlaut: 7 is over 6")
    assert (error.reason, error.field) == (ErrorReason.TOO_MANY_DECODE_FAILURES, "ranking.top_k_tags")


@pytest.mark.parametrize("text", ["x", "ü", "🎬", "\n", "\ud800"])
async def test_a_long_message_is_cut_before_it_outgrows_what_grpc_carries(text):
    error = from_rpc_error(await caught(NotFound(text * 5000, field="labels")))
    assert (type(error), error.field) == (NotFound, "labels")
    assert error.message.endswith("…")
    assert 990 < len(error.message.encode()) <= 1000


async def test_an_error_without_a_field_arrives_without_one():
    error = from_rpc_error(await caught(BankMissing("not yet")))
    assert (type(error), error.reason, error.field) == (Unavailable, ErrorReason.BANK_NOT_READY, None)


@pytest.mark.parametrize("seconds", [0.0, 0.25, 90.5])
async def test_overload_carries_the_retry_delay(seconds):
    error = from_rpc_error(await caught(Overloaded("full", retry_after_seconds=seconds)))
    assert isinstance(error, Overloaded)
    assert error.retry_after_seconds == seconds


async def test_the_details_are_those_that_other_tools_read():
    status = rpc_status.from_call(
        await caught(Overloaded("full", retry_after_seconds=2.5, reason=ErrorReason.ENCODER_BUSY, field="x"))
    )
    assert (status.code, status.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "full")
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert [detail.Unpack(into) for detail, into in zip(status.details, (info, retry), strict=True)]
    assert (info.reason, info.domain, dict(info.metadata)) == ("ENCODER_BUSY", "videoanalysis", {"field": "x"})
    assert retry.retry_delay.ToTimedelta().total_seconds() == 2.5


async def test_an_invalid_argument_lists_every_violation():
    violations = Violations()
    violations.require(False, "a", "is odd")
    violations.require(True, "b", "is fine")
    with violations:
        raise InvalidInput("c: is no URI", field="c", reason=ErrorReason.MALFORMED_URI)
    with pytest.raises(InvalidInput) as raised:
        violations.check()
    status = rpc_status.from_call(error := await caught(raised.value))
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert [detail.Unpack(into) for detail, into in zip(status.details, (info, request), strict=True)]
    assert (info.reason, info.metadata["field"]) == ("INVALID_INPUT", "a")
    listed = [("a", "a: is odd"), ("c", "c: is no URI")]
    assert [(one.field, one.description) for one in request.field_violations] == listed
    assert status.message == "a: is odd; c: is no URI"
    received = from_rpc_error(error)
    assert [(one.field, one.message) for one in received.violations] == listed


def test_one_violation_is_raised_as_it_is_and_none_raises_nothing():
    violations = Violations()
    violations.check()
    with violations:
        raise InvalidInput("a: is no URI", field="a", reason=ErrorReason.MALFORMED_URI)
    with pytest.raises(InvalidInput) as raised:
        violations.check()
    assert (raised.value.reason, raised.value.field) == (ErrorReason.MALFORMED_URI, "a")


async def test_an_error_with_many_long_violations_still_fits_into_the_metadata():
    violations = Violations()
    for index in range(50):
        violations.require(False, f"field_{index}", "must be something else \U0001f600" * 3)
    with pytest.raises(InvalidInput) as raised:
        violations.check()
    error = from_rpc_error(await caught(raised.value))
    assert isinstance(error, InvalidInput)
    assert error.violations[0].field == "field_0"


async def test_a_synchronous_caller_gets_the_same_error():
    def call(address: str) -> ServiceError:
        with grpc.insecure_channel(address) as channel:
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(METHOD)(b"", timeout=10)
            return from_rpc_error(raised.value)

    async with failing(NotFound("no such object", reason=ErrorReason.OBJECT_NOT_FOUND, field="video_uri")) as address:
        error = await asyncio.to_thread(call, address)
    assert (type(error), error.message) == (NotFound, "no such object")
    assert (error.reason, error.field) == (ErrorReason.OBJECT_NOT_FOUND, "video_uri")


def received(code: grpc.StatusCode, details: str | None, *trailing: tuple[str, bytes]) -> grpc.aio.AioRpcError:
    """What a caller catches of a server that is not ours."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


def test_a_code_without_a_kind_of_its_own_is_unavailable_and_named():
    error = from_rpc_error(received(grpc.StatusCode.DATA_LOSS, None))
    assert (type(error), error.reason, error.message) == (Unavailable, ErrorReason.UNAVAILABLE, "DATA_LOSS")


def test_a_bare_status_is_an_error_with_the_reason_of_its_kind():
    error = from_rpc_error(received(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full"))
    assert isinstance(error, Overloaded)
    assert (error.reason, error.message) == (ErrorReason.OVERLOADED, "queue is full")


def test_a_bug_of_the_service_has_a_reason_of_its_own():
    error = from_rpc_error(received(grpc.StatusCode.INTERNAL, "internal error"))
    assert (type(error), error.reason) == (Unavailable, ErrorReason.INTERNAL)


@pytest.mark.parametrize(
    ("reason", "domain"), [("OF_A_LATER_VERSION", "videoanalysis"), ("MODEL_MISMATCH", "googleapis.com")]
)
def test_a_reason_that_is_not_known_is_read_as_that_of_its_code(reason, domain):
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    status = status_pb2.Status(code=9, message="not now", details=[packed])
    error = from_rpc_error(
        received(
            grpc.StatusCode.FAILED_PRECONDITION, "not now", ("grpc-status-details-bin", status.SerializeToString())
        )
    )
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.FAILED_PRECONDITION)


def test_details_of_others_are_passed_over():
    strange = any_pb2.Any(type_url="type.googleapis.com/some.Other", value=b"\xff")
    status = status_pb2.Status(code=5, message="gone", details=[strange])
    error = from_rpc_error(
        received(grpc.StatusCode.NOT_FOUND, "gone", ("grpc-status-details-bin", status.SerializeToString()))
    )
    assert (type(error), error.reason) == (NotFound, ErrorReason.NOT_FOUND)


def test_details_that_cannot_be_read_are_passed_over():
    error = from_rpc_error(received(grpc.StatusCode.NOT_FOUND, "gone", ("grpc-status-details-bin", b"\xff\xff")))
    assert (type(error), error.message) == (NotFound, "gone")


def test_the_trailing_metadata_of_an_error_reads_back_as_the_error():
    sent = FailedPrecondition("of another model", reason=ErrorReason.MODEL_MISMATCH, field="header.model_digest")
    error = from_rpc_error(received(grpc.StatusCode.FAILED_PRECONDITION, sent.message, *trailing_metadata(sent)))
    assert (type(error), error.message, error.reason, error.field) == (
        FailedPrecondition,
        "of another model",
        ErrorReason.MODEL_MISMATCH,
        "header.model_digest",
    )
