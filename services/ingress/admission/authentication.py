"""Authenticates each call, sets its caller, and logs every decision."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog

from services.ingress.admission.bearer_tokens import BearerTokens
from services.ingress.admission.caller import Caller
from services.ingress.admission.policy import Permissions, Policy
from services.ingress.admission.web_tokens import MAX_CALLER_CHARACTERS, WebTokens
from videoanalysis import call_log
from videoanalysis.call_log import host_of
from videoanalysis.errors import InvalidInput, PermissionDenied, ServiceError, Unauthenticated
from videoanalysis.reloaded_files import ReloadedFiles

if TYPE_CHECKING:
    import grpc

_OPEN_TO_ALL = "/grpc.health.v1.Health/"
# gRPC servers accept 8 KiB of metadata in all.
_MAX_TOKEN_CHARACTERS = 8 << 10

Metadata = Sequence[tuple[str, str | bytes]]

_log = structlog.get_logger()
_caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the call that this task handles; LookupError outside of `Authentication.guard`."""
    return _caller.get()


class Authentication:
    """Finds the caller by bearer token, static or JWT, and what `policy` permits.

    With neither `tokens` nor `web_tokens`, every call is accepted. `caller_header` then names the caller, who is
    otherwise anonymous; with them, the header is accepted only from a caller that the policy declares a gateway.
    """

    def __init__(
        self,
        *,
        tokens: ReloadedFiles[BearerTokens] | None = None,
        web_tokens: WebTokens | None = None,
        policy: ReloadedFiles[Policy] | None = None,
        caller_header: str | None = None,
    ) -> None:
        self._tokens = tokens
        self._web_tokens = web_tokens
        self._policy = policy
        self._caller_header = caller_header
        self._is_required = tokens is not None or web_tokens is not None

    @asynccontextmanager
    async def guard(self, method: str, context: "grpc.aio.ServicerContext") -> AsyncGenerator[None]:
        """Surrounds a call of `method`: refuses it, or sets its `current_caller`. Health is open to all."""
        if method.startswith(_OPEN_TO_ALL):
            yield
            return
        identity, decision, peer = "", "", context.peer()
        try:
            identity = await self._identify(context.invocation_metadata() or ())
            call_log.bind(caller=identity)
            reset = _caller.set(Caller.of(identity, peer, self._permissions(identity)))
            decision = "allowed"
            try:
                yield
            finally:
                _caller.reset(reset)
        except ServiceError as error:
            if not decision or isinstance(error, PermissionDenied):
                decision = error.reason_name
            raise
        finally:
            if self._is_required or identity or decision != "allowed":
                # Neither token nor URI: both may hold secrets.
                _log.info("audit", caller=identity, peer=host_of(peer), method=method, decision=decision)

    async def _identify(self, metadata: Metadata) -> str:
        identity = await self._authenticate(metadata) if self._is_required else ""
        if self._caller_header is None or (self._is_required and not self._permissions(identity).gateway):
            return identity
        named = _only(metadata, self._caller_header)
        if named is None:
            return identity
        if not 0 < len(named) <= MAX_CALLER_CHARACTERS or not named.isprintable():
            raise InvalidInput(
                f"metadata {self._caller_header}: must be 1 to {MAX_CALLER_CHARACTERS} printable characters"
            )
        return named

    async def _authenticate(self, metadata: Metadata) -> str:
        scheme, _, token = (_only(metadata, "authorization") or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("metadata authorization: must be `Bearer` and a token")
        if self._tokens is not None and (caller := self._tokens.get().caller(token)) is not None:
            return caller
        if self._web_tokens is not None and token.count(".") == 2:
            return await self._web_tokens.caller(token)
        raise Unauthenticated("the bearer token is not known here")

    def _permissions(self, identity: str) -> Permissions:
        return Permissions() if self._policy is None else self._policy.get().of(identity)


def _only(metadata: Metadata, key: str) -> str | None:
    """The value of `key`; two values are refused, since one may have been added by an intermediary."""
    values = [value for name, value in metadata if name == key]
    if len(values) > 1:
        raise InvalidInput(f"metadata {key}: given {len(values)} times, must be given once")
    return None if not values else values[0] if isinstance(values[0], str) else None
