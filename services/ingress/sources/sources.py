"""Which source a video URI names, and whether the operator allows it."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.ingress.sources.https import HttpsObject
from services.ingress.sources.local_file import LocalFile
from services.ingress.sources.media import FIELD, Source
from services.ingress.sources.public_addresses import Networks
from services.ingress.sources.s3 import S3Object
from services.ingress.sources.sample_clip import SAMPLE_CLIP_URI, sample_clip
from services.ingress.sources.scratch import ScratchSpace
from videoanalysis.errors import InvalidInput, PermissionDenied
from videoanalysis.limits import has_control_characters
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_MAX_URI_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Allowed:
    """What callers may name. `buckets` may hold "*"; the others are directories and prefixes up to a slash."""

    buckets: Sequence[str] = ()
    file_roots: Sequence[Path] = ()
    https_prefixes: Sequence[str] = ()
    https_networks: Networks = ()  # of addresses that are not public


class Sources:
    """`tls` verifies https servers; default: the system's certificate authorities."""

    def __init__(
        self, storage: Storage, allowed: Allowed, scratch: ScratchSpace, tls: ssl.SSLContext | None = None
    ) -> None:
        self._storage = storage
        self._allowed = allowed
        self._scratch = scratch
        self._tls = tls or ssl.create_default_context()

    def locate(self, uri: str) -> Source:
        """The source that `uri` names; raises InvalidInput or PermissionDenied without touching it."""
        if len(uri) > _MAX_URI_CHARACTERS or has_control_characters(uri):
            raise InvalidInput(
                f"{FIELD}: over {_MAX_URI_CHARACTERS} characters, or has control characters",
                reason=ErrorReason.MALFORMED_URI,
                field=FIELD,
            )
        if uri == SAMPLE_CLIP_URI:
            return sample_clip(self._scratch.max_object_bytes)
        match uri.partition("://")[0]:
            case "s3":
                return self._s3(uri)
            case "file":
                return self._file(uri)
            case "https":
                return self._https(uri)
        raise _malformed(f"s3://bucket/key or {SAMPLE_CLIP_URI}")

    def _s3(self, uri: str) -> Source:
        parsed = S3Uri.parse(uri, FIELD)
        if "*" not in self._allowed.buckets:
            if parsed.bucket not in self._allowed.buckets:
                raise _forbidden(ErrorReason.BUCKET_NOT_ALLOWED, f"bucket {parsed.bucket!r}", "INGRESS_ALLOWED_BUCKETS")
            # Where buckets are parts of the path, a store or proxy that resolves it would end up in another bucket.
            parsed.check_dot_segments(FIELD)
        return S3Object(parsed, self._storage, self._scratch)

    def _file(self, uri: str) -> Source:
        try:
            parts = urlsplit(uri)
            if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
                raise _malformed("file:///path")
            # Links are followed before the check, so that none leads out of an allowed directory.
            path = Path(unquote(parts.path)).resolve()
        except (ValueError, RuntimeError) as error:  # brackets of no IPv6 address, a null character; links in a circle
            raise _malformed("file:///path") from error
        if not any(path.is_relative_to(root.resolve()) for root in self._allowed.file_roots):
            raise _forbidden(ErrorReason.FILE_NOT_ALLOWED, "this path", "INGRESS_ALLOWED_FILE_ROOTS")
        return LocalFile(path, self._scratch.max_object_bytes)

    def _https(self, uri: str) -> Source:
        try:
            parts = urlsplit(uri)
            malformed = (
                not parts.hostname or "@" in parts.netloc or ".." in unquote(parts.path) or not uri.isprintable()
            )
        except ValueError:
            malformed = True
        if malformed:
            raise _malformed("https://host/path")
        if not any(uri.startswith(prefix.rstrip("/") + "/") for prefix in self._allowed.https_prefixes):
            raise _forbidden(ErrorReason.HOST_NOT_ALLOWED, "this address", "INGRESS_ALLOWED_HTTPS_PREFIXES")
        return HttpsObject(uri, self._scratch, self._tls, self._allowed.https_networks)


def _malformed(form: str) -> InvalidInput:
    return InvalidInput(f"{FIELD}: not of the form {form}", reason=ErrorReason.MALFORMED_URI, field=FIELD)


def _forbidden(reason: ErrorReason, what: str, setting: str) -> PermissionDenied:
    return PermissionDenied(
        f"{FIELD}: {what} is not allowed here; the operator allows it with {setting}", reason=reason, field=FIELD
    )
