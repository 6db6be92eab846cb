"""s3://bucket/key."""

import re
from dataclasses import dataclass

from videoanalysis.errors import InvalidInput
from videoanalysis.limits import has_control_characters
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# A bucket of 63 characters and a key of 1024 bytes.
_MAX_URI_CHARACTERS = 5 + 63 + 1 + 1024


@dataclass(frozen=True, slots=True)
class S3Uri:
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, uri: str, field: str) -> "S3Uri":
        """The parts of s3://bucket/key; the key is taken as it stands, not URL-decoded.

        Raises InvalidInput, naming `field`.
        """
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        is_s3 = len(uri) <= _MAX_URI_CHARACTERS and uri.startswith("s3://")
        problem = ""
        if not is_s3 or not bucket or not key or has_control_characters(uri):
            problem = "not of the form s3://bucket/key"
        elif not _BUCKET.fullmatch(bucket):
            problem = f"{bucket} is no name of a bucket, which has 3 to 63 lower-case letters, digits, dots and dashes"
        if problem:
            raise InvalidInput(f"{field}: {problem}", reason=ErrorReason.MALFORMED_URI, field=field)
        if len(key.encode()) > 1024:
            raise InvalidInput(f"{field}: the key is over 1024 bytes", reason=ErrorReason.MALFORMED_URI, field=field)
        return cls(bucket, key)

    def check_dot_segments(self, field: str) -> None:
        """Raises InvalidInput, naming `field`, if a segment of the key is "." or "..".

        Some stores and proxies resolve these, so that the key means another object than the one that was checked.
        """
        if not {".", ".."}.isdisjoint(self.key.split("/")):
            raise InvalidInput(
                f'{field}: a segment of the key is "." or "..", which is not allowed here',
                reason=ErrorReason.MALFORMED_URI,
                field=field,
            )
