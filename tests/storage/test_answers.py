"""Every answer of a store is an error with a reason and a remedy, and repeated only where that can help."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.storage.downloads import download
from tests.storage.fake_s3 import CONTENT, ETAG, FakeS3, Refusal, fake_s3
from videoanalysis.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ServiceError,
    Unavailable,
)
from videoanalysis.storage import S3Uri, Storage, StoredObject
from videoanalysis.storage.answers import answer_of
from videoanalysis.v1.error_reason_pb2 import ErrorReason

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIP = S3Uri("videos", "clip")
MEASURED = StoredObject(CLIP, len(CONTENT), ETAG)
ATTEMPTS = 2

DENIED = (PermissionDenied, ErrorReason.STORAGE_ACCESS_DENIED)
UNAVAILABLE = (Unavailable, ErrorReason.STORAGE_UNAVAILABLE)
MISCONFIGURED = (FailedPrecondition, ErrorReason.STORAGE_MISCONFIGURED)
MISSING = (NotFound, ErrorReason.OBJECT_NOT_FOUND)
ARCHIVED = (FailedPrecondition, ErrorReason.OBJECT_ARCHIVED)
UNREADABLE = (FailedPrecondition, ErrorReason.OBJECT_NOT_READABLE)
CHANGED = (FailedPrecondition, ErrorReason.OBJECT_CHANGED)
FULL = (FailedPrecondition, ErrorReason.STORAGE_FULL)
TOO_LARGE = (FailedPrecondition, ErrorReason.OBJECT_OVER_LIMIT)
NAME = (InvalidInput, ErrorReason.MALFORMED_URI)

# Code and status as the S3 API reference and other stores have them, our error, a word of the remedy, and repeats.
CODES = [
    ("NoSuchKey", 404, MISSING, "no such object", False),
    ("NoSuchBucket", 404, MISSING, "bucket", False),
    ("MethodNotAllowed", 405, MISSING, "delete marker", False),
    ("AccessDenied", 403, DENIED, "s3:GetObject", False),
    ("AllAccessDisabled", 403, DENIED, "disabled", False),
    ("AccountProblem", 403, DENIED, "account", False),
    ("InvalidPayer", 403, DENIED, "pay", False),
    ("InvalidAccessKeyId", 403, DENIED, "access key", False),
    ("SignatureDoesNotMatch", 403, DENIED, "secret", False),
    ("InvalidSecurity", 403, DENIED, "secret", False),
    ("ExpiredToken", 400, DENIED, "expired", False),
    ("InvalidToken", 400, DENIED, "renew", False),
    ("TokenRefreshRequired", 400, DENIED, "renew", False),
    ("RequestTimeTooSkewed", 403, MISCONFIGURED, "clock", False),
    ("InvalidObjectState", 403, ARCHIVED, "restore", False),
    ("KMS.DisabledException", 400, UNREADABLE, "KMS", False),
    ("KMS.KMSInvalidStateException", 400, UNREADABLE, "KMS", False),
    ("KMSInvalidState", 400, UNREADABLE, "KMS", False),
    ("DisabledException", 400, UNREADABLE, "KMS", False),
    ("KMS.NotFoundException", 400, UNREADABLE, "KMS", False),
    ("KMS.SomethingNewException", 400, UNREADABLE, "KMS", False),
    ("KMSAccessDeniedException", 400, DENIED, "kms:Decrypt", False),
    ("KMS.AccessDeniedException", 400, DENIED, "kms:Decrypt", False),
    ("KMS.ThrottlingException", 400, UNAVAILABLE, "fewer", True),
    ("SlowDown", 503, UNAVAILABLE, "fewer", True),
    ("ServiceUnavailable", 503, UNAVAILABLE, "fewer", True),
    ("RequestLimitExceeded", 400, UNAVAILABLE, "fewer", True),
    ("ThrottlingException", 400, UNAVAILABLE, "fewer", True),
    ("TooManyRequests", 429, UNAVAILABLE, "fewer", True),
    ("InternalError", 500, UNAVAILABLE, "later", True),
    ("RequestTimeout", 400, UNAVAILABLE, "later", True),
    ("OperationAborted", 409, UNAVAILABLE, "in progress", True),
    ("PermanentRedirect", 301, MISCONFIGURED, "region", False),
    ("TemporaryRedirect", 307, UNAVAILABLE, "region", True),
    ("IllegalLocationConstraintException", 400, MISCONFIGURED, "region", False),
    ("AuthorizationHeaderMalformed", 400, MISCONFIGURED, "region", False),
    ("PreconditionFailed", 412, CHANGED, "changed", False),
    ("InvalidRange", 416, CHANGED, "changed", False),
    ("InvalidRequest", 400, UNREADABLE, "SSE-C", False),
    ("InvalidArgument", 400, UNREADABLE, "log", False),
    ("NotImplemented", 501, MISCONFIGURED, "AWS_REQUEST_CHECKSUM_CALCULATION", False),
    ("QuotaExceeded", 403, FULL, "quota", False),
    ("XMinioStorageFull", 507, FULL, "full", False),
    ("EntityTooLarge", 400, TOO_LARGE, "large", False),
    ("KeyTooLongError", 400, NAME, "key", False),
    ("NoSuchUpload", 404, UNAVAILABLE, "upload", False),
    ("BadDigest", 400, UNAVAILABLE, "damaged", True),
    ("SomethingNew", 400, UNREADABLE, "log", False),
    ("SomethingNew", 418, UNREADABLE, "log", False),
    ("SomethingNew", 403, DENIED, "s3:GetObject", False),
    ("SomethingNew", 599, UNAVAILABLE, "later", True),
]
STATUSES = {
    301: (MISCONFIGURED, False),
    302: (UNAVAILABLE, True),
    304: (MISCONFIGURED, False),
    307: (UNAVAILABLE, True),
    308: (MISCONFIGURED, False),
    400: (UNREADABLE, False),
    401: (DENIED, False),
    403: (DENIED, False),
    404: (MISSING, False),
    405: (MISSING, False),
    407: (UNREADABLE, False),
    412: (CHANGED, False),
    418: (UNREADABLE, False),
    429: (UNAVAILABLE, True),
    500: (UNAVAILABLE, True),
    501: (MISCONFIGURED, False),
    502: (UNAVAILABLE, True),
    503: (UNAVAILABLE, True),
    504: (UNAVAILABLE, True),
    599: (UNAVAILABLE, True),
}


@dataclass(frozen=True)
class Stored:
    store: FakeS3
    storage: Storage

    def refuse(self, *refusals: Refusal, always: Refusal | None = None) -> None:
        self.store.refusals.clear()
        self.store.refusals.extend(refusals)
        self.store.always = always
        self.store.requests.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stored() -> AsyncIterator[Stored]:
    """One client for all tests: it takes longer to make than an answer."""
    async with (
        fake_s3() as store,
        Storage.open(
            store.endpoint, "us-east-1", ("key", "secret"), attempts=ATTEMPTS, backoff_seconds=0.001
        ) as storage,
    ):
        yield Stored(store, storage)


READ: dict[str, Callable[[Storage], Awaitable[object]]] = {
    "stat": lambda storage: storage.stat(CLIP),
    "download": lambda storage: download(storage, MEASURED, io.BytesIO()),
}
WRITE: dict[str, Callable[[Storage], Awaitable[object]]] = {
    "list": lambda storage: storage.list(S3Uri("videos", "cl")),
    "write": lambda storage: storage.write(CLIP, b"content", "text/plain"),
}


async def refusal_of(call: Awaitable[object]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize(
    ("code", "status", "kind", "remedy", "repeated"), CODES, ids=[f"{code}-{status}" for code, status, *_ in CODES]
)
async def test_an_error_code_has_a_reason_and_a_remedy(stored, code, status, kind, remedy, repeated):
    for call in (READ["download"], WRITE["write"]):
        stored.refuse(always=Refusal(status, code))
        error = await refusal_of(call(stored.storage))
        assert (type(error), error.reason) == kind
        assert remedy in error.message
        assert len(stored.store.requests) == (ATTEMPTS if repeated else 1)
        # What the store sent is for the log alone.
        assert "secret-of-the-store" not in error.message
        assert "request-1" not in error.message
        assert error.details["code"] == code
        assert (error.details["status"], error.details["request_id"]) == (status, "request-1")


@pytest.mark.parametrize("body", ["", "<html><body>Gateway</body></html>", "plain", '{"error": "json"}', "<a><b></a>"])
@pytest.mark.parametrize("status", STATUSES)
async def test_an_answer_without_a_code_is_known_by_its_status(stored, status, body):
    kind, repeated = STATUSES[status]
    stored.refuse(always=Refusal(status, body=body))
    error = await refusal_of(READ["download"](stored.storage))
    assert (type(error), error.reason) == kind
    assert len(stored.store.requests) == (ATTEMPTS if repeated else 1)


@pytest.mark.parametrize(
    ("code", "status", "kind"), [(code, status, kind) for code, status, kind, *_ in CODES if status in (400, 403)]
)
async def test_the_error_code_that_an_answer_to_head_cannot_have_is_requested_with_get(stored, code, status, kind):
    stored.refuse(always=Refusal(status, code))
    error = await refusal_of(READ["stat"](stored.storage))
    assert (type(error), error.reason) == kind


async def test_an_object_is_measured_with_get_where_head_is_denied(stored):
    stored.refuse(Refusal(403))
    assert await stored.storage.stat(CLIP) == MEASURED


@pytest.mark.parametrize("body", ["", "<html><body>Log in</body></html>", "<html><br></html>", "plain"])
async def test_a_portal_that_answers_everything_with_200_is_no_store(stored, body):
    stored.refuse(always=Refusal(200, body=body))
    for call in (READ | WRITE).values():
        error = await refusal_of(call(stored.storage))
        assert (type(error), error.reason) == UNAVAILABLE


async def test_a_repeat_that_succeeds_is_a_success(stored):
    stored.refuse(Refusal(503, "SlowDown"))
    file = io.BytesIO(b"12345")
    file.seek(2)
    await stored.storage.write(CLIP, file, "text/plain")
    assert [request.body for request in stored.store.requests] == [b"345", b"345"]


async def test_an_unknown_code_is_repeated_for_server_errors_alone():
    for status in range(300, 600):
        answer = answer_of("SomethingNew", status)
        if status >= 500:
            assert answer.repeat == (status not in (501, 507)), status
        elif status >= 400:
            assert answer.repeat == (status in (408, 409, 425, 429, 499)), status
        assert answer.text
