"""Resume tokens: the signed state of a stream after one of its chunks. The service stores none of them.

    1 byte    version
    32 bytes  HMAC-SHA256 of the version and all that follows
    8 bytes   when it was signed, seconds since 1970
    48 bytes  the first 16 of the SHA-256 of the caller, of the request and of the object's version
    the rest  a ResumeState

A token is signed, not encrypted: it holds nothing that its caller did not send or receive anyway.

Signed with the standard library: itsdangerous stops at the first key that matches, so its response time reveals which
key that is, and it would save only a few lines.
"""

import hashlib
import hmac
import json
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.ingress.job import AnalysisRequest
from services.ingress.resume.state import ResumeState
from videoanalysis.errors import FailedPrecondition, InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

FIELD = "resume_token"
MAX_TOKEN_BYTES = 16 << 10
VALID_SECONDS = 24 * 3600

_VERSION = b"\x02"
_MAC_BYTES = 32
_CLAIMS = struct.Struct("<q16s16s16s")


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where to resume, provided that the object still has the version whose digest the token holds."""

    state: ResumeState
    object_digest: bytes

    def is_of(self, object_version: str) -> bool:
        return hmac.compare_digest(self.object_digest, _digest(object_version))


class ResumeTokens:
    """Signs tokens with the first of `keys` and accepts any of them; without keys it issues none."""

    def __init__(self, keys: Sequence[bytes], clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def of(self, caller: str, video_uri: str, request: AnalysisRequest) -> "RequestTokens":
        """The tokens of one caller (Caller.identity) for one request."""
        return RequestTokens(self._keys, self._clock, _digest(caller), _digest(_described(video_uri, request)))


class RequestTokens:
    def __init__(self, keys: Sequence[bytes], clock: Callable[[], float], caller: bytes, request: bytes) -> None:
        self._keys = keys
        self._clock = clock
        self._caller = caller
        self._request = request

    def issue(self, state: ResumeState, object_version: str) -> bytes:
        """Empty without a key, for an object without a version, and if the token would exceed MAX_TOKEN_BYTES."""
        if not self._keys or not object_version:
            return b""
        claims = _CLAIMS.pack(int(self._clock()), self._caller, self._request, _digest(object_version))
        signed = claims + state.to_bytes()
        token = _VERSION + _mac(self._keys[0], signed) + signed
        return token if len(token) <= MAX_TOKEN_BYTES else b""

    def read(self, token: bytes) -> Resumption:
        """Raises InvalidInput for another signer's token, FailedPrecondition for another caller's or request's."""
        mac, signed = token[len(_VERSION) :][:_MAC_BYTES], token[len(_VERSION) + _MAC_BYTES :]
        well_formed = len(token) <= MAX_TOKEN_BYTES and token.startswith(_VERSION) and len(signed) >= _CLAIMS.size
        # Always compared with every key, so that the time does not reveal which one matches.
        matches = [hmac.compare_digest(mac, _mac(key, signed)) for key in self._keys] if well_formed else []
        if not any(matches):
            raise InvalidInput(f"{FIELD}: not signed by this service", reason=ErrorReason.TOKEN_FORGED, field=FIELD)
        signed_at, caller, request, object_digest = _CLAIMS.unpack_from(signed)
        if self._clock() - signed_at > VALID_SECONDS:
            raise stale_token(ErrorReason.TOKEN_EXPIRED, f"over {VALID_SECONDS // 3600} hours old")
        if not hmac.compare_digest(caller, self._caller):
            raise stale_token(ErrorReason.TOKEN_OF_ANOTHER_CALLER, "given to another caller")
        if not hmac.compare_digest(request, self._request):
            raise stale_token(
                ErrorReason.TOKEN_OF_ANOTHER_REQUEST, "given for another video, or an analysis with other parameters"
            )
        return Resumption(ResumeState.from_bytes(signed[_CLAIMS.size :]), object_digest)


def stale_token(reason: ErrorReason, problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"{FIELD}: {problem}; start from the beginning", reason=reason, field=FIELD)


def _described(video_uri: str, request: AnalysisRequest) -> str:
    """Everything that chunks and state depend on, with defaults filled in: a new default makes another request."""
    scene = request.scene
    return json.dumps(
        [
            video_uri,
            request.frames_per_chunk,
            request.chunk_duration.as_integer_ratio(),
            request.top_k_tags,
            request.min_probability,
            request.labels,
            request.text_bank,
            [scene.detection, scene.threshold, scene.ema_alpha],
            request.include_embeddings,
            request.include_scene_scores,
            request.sampling_tolerance.as_integer_ratio(),
            request.reuse_difference,
            request.start.as_integer_ratio(),
            request.end and request.end.as_integer_ratio(),
            request.detect_cuts,
            request.scenes_by_cuts,
            request.min_scene_seconds,
        ]
    )


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, _VERSION + signed, hashlib.sha256)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
