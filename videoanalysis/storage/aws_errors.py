"""Translates exceptions of the AWS library into ServiceErrors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from videoanalysis.errors import ServiceError
from videoanalysis.storage import answers
from videoanalysis.storage.answers import Answer
from videoanalysis.storage.credentials import CredentialsUnavailable
from videoanalysis.storage.s3_uri import S3Uri

# Raised if the store does not answer or a transfer breaks off.
CONNECTION_ERRORS = (
    HTTPClientError,
    BotoConnectionError,
    IncompleteReadError,
    ChecksumError,
    FlexibleChecksumError,
    aiohttp.ClientError,
    OSError,  # of which TimeoutError is one
)


def metadata_of(error: Exception) -> Any:
    return error.response.get("ResponseMetadata", {}) if isinstance(error, ClientError) else {}


def answer_to(error: Exception) -> Answer | None:
    """The row of the table for an exception of the AWS library; None for any other exception."""
    match error:
        case ClientError():
            code = str(error.response.get("Error", {}).get("Code", ""))
            return answers.answer_of(code, int(metadata_of(error).get("HTTPStatusCode", 0)))
        case CredentialsUnavailable():
            return answers.CREDENTIALS_NOT_READY if error.may_come else answers.NO_CREDENTIALS
        case SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return answers.UNTRUSTED
        case ProxyConnectionError():
            return answers.PROXY_FAILS
        case _ if isinstance(error, CONNECTION_ERRORS):
            return answers.SILENT
        case BotoCoreError():
            return answers.MISCONFIGURED
        case ResponseParserError() | KeyError() | ValueError():  # not XML, or without the expected members
            return answers.NOT_S3
    return None


@contextmanager
def translated(uri: S3Uri) -> Iterator[None]:
    """Translates the errors of the AWS library. Their text goes only to the log."""
    try:
        yield
    except Exception as error:
        answer = None if isinstance(error, ServiceError) else answer_to(error)
        if answer is None:
            raise
        details: dict[str, object] = {}
        if isinstance(error, ClientError):
            metadata = metadata_of(error)
            details = {
                "code": str(error.response.get("Error", {}).get("Code", "")),
                "status": metadata.get("HTTPStatusCode"),
                "request_id": metadata.get("RequestId"),
                "host_id": metadata.get("HostId"),
                "operation": error.operation_name,
            }
        raise answer.of(uri, details) from error
