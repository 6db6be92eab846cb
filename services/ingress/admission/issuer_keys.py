"""The public keys of a token issuer (a JSON Web Key Set), from a file or an https:// URL."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import aiohttp
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from videoanalysis.errors import Unavailable
from videoanalysis.proxies import proxy_of
from videoanalysis.reloaded_files import ReloadedFiles
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_MAX_BYTES = 256 << 10
_MAX_KEYS = 100
_FETCH_SECONDS = 5.0
_REFRESH_SECONDS = 300.0
# So that calls with tokens of unknown keys do not each send a request to the issuer.
_SECONDS_BETWEEN_FETCHES = 10.0

_log = structlog.get_logger()


class IssuerKeys(Protocol):
    async def get(self, key_id: str | None) -> KeySet:
        """The current keys, fetched again if none of them is `key_id`; raises Unavailable before there are any."""


def parse_keys(content: bytes) -> KeySet:
    """Raises ValueError. Secret (symmetric) keys are left out: they could sign as well as verify."""
    try:
        public = [key for key in json.loads(content)["keys"] if key.get("kty") != "oct"]
        keys = KeySet.import_key_set({"keys": public[:_MAX_KEYS]})
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a JSON Web Key Set with public keys") from error
    if len(public) > _MAX_KEYS:
        raise ValueError(f"holds {len(public)} public keys, at most {_MAX_KEYS} are accepted")
    return keys


class FileKeys:
    """Keys in a file, read again when it changes; raises InvalidFile."""

    def __init__(self, setting: str, path: Path) -> None:
        self._keys = ReloadedFiles(setting, [path], lambda: _read(path))

    async def get(self, key_id: str | None) -> KeySet:
        return self._keys.get()


class RemoteKeys:
    """Keys at a URL, fetched while entered: at the start, every five minutes, and when a token names an unknown one."""

    def __init__(
        self, url: str, tls: ssl.SSLContext | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._tls = tls or ssl.create_default_context()
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._fetch()
        self._refreshing = asyncio.create_task(self._refresh_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._refreshing.cancel()
        await asyncio.wait([self._refreshing])

    async def get(self, key_id: str | None) -> KeySet:
        if self._keys is None or (key_id is not None and all(key.kid != key_id for key in self._keys)):
            await self._fetch()
        if self._keys is None:
            raise Unavailable(
                "the keys of the token issuer cannot be read; try again later", reason=ErrorReason.KEYS_UNAVAILABLE
            )
        return self._keys

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS if self._keys is not None else _SECONDS_BETWEEN_FETCHES)
            await self._fetch()

    async def _fetch(self) -> None:
        """Fetches the keys unless they were fetched just now; on failure the previous keys stay."""
        async with self._fetching:
            if self._clock() - self._fetched_at < _SECONDS_BETWEEN_FETCHES:
                return
            self._fetched_at = self._clock()
            try:
                self._keys = parse_keys(await self._content())
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                _log.warning("issuer's keys not fetched", url=self._url, error=str(error) or type(error).__name__)

    async def _content(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, proxy=proxy_of(self._url)) as session,
            session.get(self._url, ssl=self._tls, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            content = b""
            async for part in response.content.iter_chunked(64 << 10):
                content += part
                if len(content) > _MAX_BYTES:
                    raise ValueError(f"more than {_MAX_BYTES} bytes")
            return content


def _read(path: Path) -> KeySet:
    try:
        return parse_keys(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
