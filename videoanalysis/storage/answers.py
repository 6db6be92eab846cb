"""A table from S3 error codes and HTTP statuses to the ServiceError, its message, and whether a retry may succeed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, ServiceError, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason


@dataclass(frozen=True, slots=True)
class Answer:
    """The error that callers get. `text` names the remedy and repeats nothing that the store sent."""

    error: type[ServiceError]
    reason: ErrorReason
    text: str
    repeat: bool = False
    """Whether the same request may succeed a moment later."""
    throttled: bool = False
    """Whether the store asks for fewer requests, so that a repeat waits longer."""
    renew_credentials: bool = False
    """Whether a repeat needs new credentials."""

    def of(self, uri: object, details: Mapping[str, object]) -> ServiceError:
        error = self.error(f"{uri}: {self.text}", reason=self.reason)
        error.details.update(details)
        return error


MISSING = Answer(NotFound, ErrorReason.OBJECT_NOT_FOUND, "no such object or bucket")
_DELETED = Answer(
    NotFound,
    ErrorReason.OBJECT_NOT_FOUND,
    "the object is deleted (its newest version is a delete marker), or the store does not allow this method",
)
_DENIED = Answer(
    PermissionDenied,
    ErrorReason.STORAGE_ACCESS_DENIED,
    "the storage denies the service access; grant its identity s3:GetObject to read, s3:PutObject to write, "
    "s3:ListBucket to list, and kms:Decrypt and kms:GenerateDataKey for a KMS key",
)
_BAD_CREDENTIALS = Answer(
    PermissionDenied,
    ErrorReason.STORAGE_ACCESS_DENIED,
    "the storage does not accept the service's credentials; correct its access key and secret",
    repeat=True,
    renew_credentials=True,
)
_EXPIRED = Answer(
    PermissionDenied,
    ErrorReason.STORAGE_ACCESS_DENIED,
    "the session token of the service's credentials is expired or invalid; renew the credentials",
    repeat=True,
    renew_credentials=True,
)
NO_CREDENTIALS = Answer(
    PermissionDenied,
    ErrorReason.STORAGE_ACCESS_DENIED,
    "the service has no credentials; give it a role, or an access key and secret, or set it to send unsigned requests",
)
CREDENTIALS_NOT_READY = Answer(
    Unavailable,
    ErrorReason.STORAGE_UNAVAILABLE,
    "the service has no credentials yet: their source did not give any; they are asked for again with the next request",
    repeat=True,
)
_DISABLED = Answer(
    PermissionDenied,
    ErrorReason.STORAGE_ACCESS_DENIED,
    "the account of the bucket or of the service is disabled for this storage; its owner must resolve that",
)
_PAYER = Answer(
    PermissionDenied,
    ErrorReason.STORAGE_ACCESS_DENIED,
    "the storage does not let the service pay for the request; check request payer and the accounts",
)
_ARCHIVED = Answer(
    FailedPrecondition,
    ErrorReason.OBJECT_ARCHIVED,
    "the object is archived; restore it (restore-object), then call again",
)
_KEY_UNUSABLE = Answer(
    FailedPrecondition,
    ErrorReason.OBJECT_NOT_READABLE,
    "the KMS key of the object or bucket is disabled, deleted or not usable; enable it",
)
_REJECTED = Answer(
    FailedPrecondition,
    ErrorReason.OBJECT_NOT_READABLE,
    "the storage rejects the request, and would again: the object may be encrypted with a key that the service does "
    "not have (SSE-C), or the store may lack something that is asked of it; the service's log has the store's code",
)
_CLOCK = Answer(
    FailedPrecondition,
    ErrorReason.STORAGE_MISCONFIGURED,
    "the service's clock differs from the storage's by too much; synchronise the clock of its node",
)
_ELSEWHERE = Answer(
    FailedPrecondition,
    ErrorReason.STORAGE_MISCONFIGURED,
    "the bucket is in another region or behind another endpoint; set the region or endpoint of the storage",
)
_MOVING = Answer(
    Unavailable,
    ErrorReason.STORAGE_UNAVAILABLE,
    "the storage redirects requests for the bucket, which is not followed; call again later, or set its region or "
    "endpoint",
    repeat=True,
)
_NOT_IMPLEMENTED = Answer(
    FailedPrecondition,
    ErrorReason.STORAGE_MISCONFIGURED,
    "the store does not implement something that is asked of it; for checksums set "
    "AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
)
CHANGED = Answer(FailedPrecondition, ErrorReason.OBJECT_CHANGED, "the object changed while it was read")
_NAME = Answer(InvalidInput, ErrorReason.MALFORMED_URI, "the store does not accept a bucket or key of this form")
_TOO_LARGE = Answer(
    FailedPrecondition, ErrorReason.OBJECT_OVER_LIMIT, "the store does not take objects as large, or parts as small"
)
_FULL = Answer(
    FailedPrecondition,
    ErrorReason.STORAGE_FULL,
    "the bucket, its account or the store is full; raise the quota or delete objects",
)
_UPLOAD_LOST = Answer(
    Unavailable,
    ErrorReason.STORAGE_UNAVAILABLE,
    "the store removed the upload before it was complete; call again",
)
_DAMAGED = Answer(
    Unavailable, ErrorReason.STORAGE_UNAVAILABLE, "the content was damaged on its way to the store", repeat=True
)
_CONFLICT = Answer(
    Unavailable, ErrorReason.STORAGE_UNAVAILABLE, "another request for the object is in progress", repeat=True
)
_THROTTLED = Answer(
    Unavailable,
    ErrorReason.STORAGE_UNAVAILABLE,
    "the storage asks for fewer requests; call again later",
    repeat=True,
    throttled=True,
)
_FAILING = Answer(Unavailable, ErrorReason.STORAGE_UNAVAILABLE, "the storage fails; call again later", repeat=True)
SILENT = Answer(Unavailable, ErrorReason.STORAGE_UNAVAILABLE, "storage did not answer", repeat=True)
PROXY_FAILS = Answer(
    Unavailable, ErrorReason.STORAGE_UNAVAILABLE, "the proxy to the storage did not answer, or refused", repeat=True
)
NOT_S3 = Answer(
    Unavailable,
    ErrorReason.STORAGE_UNAVAILABLE,
    "what answered does not speak the S3 protocol; check the storage's endpoint, and proxies on the way",
    repeat=True,
)
UNTRUSTED = Answer(
    FailedPrecondition,
    ErrorReason.STORAGE_MISCONFIGURED,
    "the storage's TLS certificate is not trusted; set the CA bundle of the storage",
)
MISCONFIGURED = Answer(
    FailedPrecondition,
    ErrorReason.STORAGE_MISCONFIGURED,
    "the service's settings of the storage are not usable; the service's log says why",
)

# Codes of the S3 API reference and of other stores, and HTTP statuses where an answer has no code, as that to HEAD.
_CODES: dict[Answer, str] = {
    MISSING: "NoSuchKey NoSuchBucket NoSuchVersion NotFound 404 410",
    _DELETED: "MethodNotAllowed 405",
    _DENIED: "AccessDenied AccessForbidden Forbidden Unauthorized UnauthorizedAccess InvalidObjectOwner 401 403",
    _BAD_CREDENTIALS: "InvalidAccessKeyId SignatureDoesNotMatch InvalidSecurity CredentialsNotSupported "
    "InvalidClientTokenId UnrecognizedClient AuthFailure IncompleteSignature MissingAuthenticationToken "
    "MissingSecurityHeader MissingSecurityElement InvalidSignature",
    _EXPIRED: "ExpiredToken InvalidToken TokenRefreshRequired RequestExpired InvalidTokenId",
    _DISABLED: "AllAccessDisabled AccountProblem NotSignedUp OptInRequired UserSuspended",
    _PAYER: "InvalidPayer",
    _ARCHIVED: "InvalidObjectState RestoreAlreadyInProgress ObjectNotInActiveTier ObjectArchived",
    _KEY_UNUSABLE: "Disabled KMSDisabled KMSInvalidState KMSNotFound KMSInvalidKeyUsage KMSKeyUnavailable "
    "KMSUnavailable KMSIncorrectKey KMSInvalidArn",
    _CLOCK: "RequestTimeTooSkewed RequestInTheFuture",
    _ELSEWHERE: "PermanentRedirect IllegalLocationConstraint AuthorizationHeaderMalformed IncorrectEndpoint "
    "InvalidRegion InvalidLocationConstraint EndpointNotFound 301 308",
    _MOVING: "TemporaryRedirect Redirect 302 303 307",
    _NOT_IMPLEMENTED: "NotImplemented 501",
    CHANGED: "PreconditionFailed InvalidRange 412 416",
    _NAME: "KeyTooLong KeyTooLongError InvalidBucketName InvalidURI InvalidObjectName URITooLong "
    "XMinioInvalidObjectName 414",
    _TOO_LARGE: "EntityTooLarge EntityTooSmall MaxMessageLengthExceeded MaxPostPreDataLengthExceeded 413",
    _FULL: "QuotaExceeded StorageQuotaExceeded InsufficientStorage InsufficientCapacity NoSpace StorageFull "
    "XMinioStorageFull XMinioAdminBucketQuotaExceeded BucketQuotaExceeded TooManyBuckets 507",
    _UPLOAD_LOST: "NoSuchUpload InvalidPart InvalidPartOrder",
    _DAMAGED: "BadDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch IncompleteBody",
    _CONFLICT: "OperationAborted ConditionalRequestConflict 409",
    _THROTTLED: "SlowDown SlowDownRead SlowDownWrite ServiceUnavailable RequestLimitExceeded Throttling Throttled "
    "ThrottledRequest RequestThrottled BandwidthLimitExceeded TooManyRequests LimitExceeded Busy "
    "ProvisionedThroughputExceeded PriorRequestNotComplete KMSThrottling KMSLimitExceeded 429 503 509",
    _FAILING: "InternalError InternalFailure InternalServerError RequestTimeout ServerTimeout SlowRead BadGateway "
    "GatewayTimeout ClientDisconnected KMSInternal KMSDependencyTimeout 408 425 499 500 502 504",
    _REJECTED: "InvalidRequest BadRequest InvalidArgument InvalidDigest MissingContentLength MalformedXML 400",
}
_TABLE = {code: answer for answer, codes in _CODES.items() for code in codes.split()}


def answer_of(code: str, status: int) -> Answer:
    """The answer of an S3 error code and HTTP status, where the more precise one is known.

    An unknown 5xx may be repeated, an unknown 4xx may not. KMS codes come as `KMS.DisabledException`,
    `KMSAccessDeniedException` and the like.
    """
    name = re.sub(r"^KMS\.(KMS)?", "KMS", code).removesuffix("Exception")
    if (found := _TABLE.get(name) or _TABLE.get(code)) is not None:
        return found
    if name.startswith("KMS"):
        return _DENIED if "Denied" in name else _KEY_UNUSABLE
    if (found := _TABLE.get(str(status))) is not None:
        return found
    if status >= 500:
        return _FAILING
    return _ELSEWHERE if 300 <= status < 400 else _REJECTED
