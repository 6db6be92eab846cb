"""The HTTP session of the AWS library: proxies of `videoanalysis.proxies`, certificates verified, no redirects."""

import ssl
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.httpsession import ProxyConfiguration, get_cert_path

from videoanalysis.proxies import proxy_of


class _Proxies(ProxyConfiguration):
    def proxy_url_for(self, url: str) -> str | None:
        return proxy_of(url)


class HttpSession(AIOHTTPSession):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._proxy_config = _Proxies()

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        # The library's own does not verify certificates behind a proxy.
        tls = ssl.create_default_context(cafile=self._verify if isinstance(self._verify, str) else None)
        if not isinstance(self._verify, str):
            tls.load_verify_locations(get_cert_path(True))
        return aiohttp.TCPConnector(limit=self._max_pool_connections, ssl=tls, **self._connector_args)

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        # A store could otherwise point to any address, also one inside the cluster.
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))


class SessionConfig(AioConfig):
    """The configuration of every client of a session, those that load credentials included."""

    def __init__(self, connector_args: Any = None, **options: Any) -> None:
        super().__init__(connector_args, http_session_cls=HttpSession, **options)

    def merge(self, other_config: AioConfig) -> "SessionConfig":
        """The options of `other_config` over these; the library's own would forget the session class."""
        return SessionConfig(self.connector_args, **super().merge(other_config)._user_provided_options)
