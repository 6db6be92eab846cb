"""Credentials of the process's AWS settings, asked for when a request is signed and not only at the start."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiobotocore.credentials import AioCredentials
from botocore.exceptions import NoCredentialsError

_LOAD_SECONDS = 30.0


class CredentialsUnavailable(Exception):
    """The source of the credentials failed, or has none; `may_come` if it may have some later."""

    def __init__(self, may_come: bool) -> None:
        super().__init__("no credentials")
        self.may_come = may_come


class RenewedCredentials(AioCredentials):
    """What botocore signs with. Sources that have no credentials yet, or fail, are asked again, at intervals.

    A pod may start before its role, its token file or the cloud's metadata service is there.
    """

    def __init__(self, load: Callable[[], Awaitable[Any]], seconds_between_loads: float) -> None:
        """`load` goes through the chain of sources and returns None if none of them has credentials."""
        super().__init__("", "")
        self._load = load
        self._seconds_between_loads = seconds_between_loads
        self._loaded: Any = None
        self._asked_at = float("-inf")
        self._failure: Exception | None = None
        self._loading = asyncio.Lock()

    async def get_frozen_credentials(self) -> Any:
        """Raises CredentialsUnavailable."""
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                credentials = await self._credentials()
                try:
                    return await credentials.get_frozen_credentials()
                except Exception as error:
                    # They are temporary, and could not be renewed: another source may have some by now.
                    self._loaded, self._failure, self._asked_at = None, error, time.monotonic()
                    raise
        except NoCredentialsError as error:
            disabled = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
            raise CredentialsUnavailable(may_come=not disabled) from error
        except Exception as error:
            # Of files, of the metadata service, of STS: what these raise has no common class.
            raise CredentialsUnavailable(may_come=True) from error

    def renew(self) -> None:
        """The store has rejected them: the next request asks for them again."""
        if time.monotonic() - self._asked_at >= self._seconds_between_loads:
            self._loaded = None

    async def _credentials(self) -> Any:
        async with self._loading:
            if self._loaded is None:
                if self._failure is not None and time.monotonic() - self._asked_at < self._seconds_between_loads:
                    raise self._failure
                try:
                    self._loaded = await self._load()
                    self._failure = None if self._loaded is not None else NoCredentialsError()
                except Exception as error:
                    self._failure = error
                finally:
                    self._asked_at = time.monotonic()
                if self._failure is not None:
                    raise self._failure
            return self._loaded
