"""Credentials of the process's AWS settings, loaded when a request is signed and not only at the start."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiobotocore.credentials import AioCredentials, create_credential_resolver
from aiobotocore.session import AioSession
from botocore.exceptions import NoCredentialsError

from videoanalysis.storage.http_session import SessionConfig

_LOAD_SECONDS = 30.0


class CredentialsUnavailable(Exception):
    """The source of the credentials failed or has none; `may_come` if a later attempt may succeed."""

    def __init__(self, may_come: bool) -> None:
        super().__init__("no credentials")
        self.may_come = may_come


class RenewedCredentials(AioCredentials):
    """The credentials with which botocore signs. Sources that have none yet, or fail, are queried again at intervals.

    A pod may start before its role, its token file or the cloud's metadata service is available.
    """

    def __init__(self, load: Callable[[], Awaitable[Any]], seconds_between_loads: float) -> None:
        """`load` tries the chain of sources and returns None if none of them has credentials."""
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
                    # Temporary credentials could not be renewed: another source may have some now.
                    self._loaded, self._failure, self._asked_at = None, error, time.monotonic()
                    raise
        except NoCredentialsError as error:
            disabled = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
            raise CredentialsUnavailable(may_come=not disabled) from error
        except Exception as error:
            # Errors of files, of the metadata service and of STS have no common class.
            raise CredentialsUnavailable(may_come=True) from error

    def renew(self) -> None:
        """The store has rejected them: the next request loads them again."""
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


async def load_credentials(region: str | None) -> Any:
    """The first credentials in the environment, the AWS files and the metadata services, read again; None if none."""
    session = AioSession()
    # For the resolver's own clients, such as that of STS.
    session.set_default_client_config(SessionConfig())
    return await create_credential_resolver(session, region_name=region).load_credentials()


class CredentialProvider:
    """The component of an AWS session that provides the credentials of a new client."""

    def __init__(self, credentials: RenewedCredentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> RenewedCredentials:
        return self._credentials
