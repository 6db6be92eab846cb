"""The replicas behind a Kubernetes Service, from its EndpointSlices; needs the rights to list and watch them."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from services.ingress.dispatch.backoff import Backoff
from services.ingress.dispatch.discovery.location import KubernetesService
from services.ingress.dispatch.discovery.source import SourceHealth

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from kubernetes.aio.client import Configuration, DiscoveryV1Api

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# The server ends a watch after so long; one that then stays silent is a dead connection.
_WATCH_SECONDS = 60
_ANSWER_SECONDS = 10.0
_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 10.0

EndpointSlice: TypeAlias = dict[str, Any]  # As in the API's JSON: discovery.k8s.io/v1.


class _VersionExpired(Exception):
    """The server no longer has the version from which the watch would continue."""


class EndpointSlices:
    """Reports at once pods that become ready and pods that terminate.

    `configuration` is that of the API server's client, by default with the pod's service account.
    """

    def __init__(self, service: KubernetesService, configuration: "Configuration | None" = None) -> None:
        self._service = service
        self._configuration = configuration

    async def watch(self) -> AsyncGenerator[frozenset[str]]:
        health = SourceHealth(f"kubernetes://{self._service.namespace or ''}/{self._service.name}:{self._service.port}")
        known: frozenset[str] = frozenset()
        backoff = Backoff(_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS)
        while True:
            began = time.monotonic()
            try:
                async with aclosing(self._follow()) as states:
                    async for slices in states:
                        addresses = ready_addresses(slices, self._service.port)
                        health.works()
                        if addresses != known:
                            known = addresses
                            yield known
            except _VersionExpired:
                pass
            # No error may end the watch: the addresses would never change again.
            except Exception as error:
                health.failed(str(error) or type(error).__name__)
            if time.monotonic() - began > _MAX_BACKOFF_SECONDS:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _follow(self) -> AsyncGenerator[list[EndpointSlice]]:
        """All slices of the service, at first and after every change; ends with an exception only."""
        # Costs 0.3 s and 40 MB, so it is imported only where it is used.
        from kubernetes.aio.client import ApiClient, DiscoveryV1Api

        namespace = self._service.namespace or _own_namespace()
        async with ApiClient(self._configuration or _of_this_pod()) as client:
            api = DiscoveryV1Api(client)
            async with asyncio.timeout(_ANSWER_SECONDS), self._request(api, namespace) as answer:
                listed = await answer.json()
            slices = {item["metadata"]["name"]: item for item in listed["items"]}
            version = listed["metadata"]["resourceVersion"]
            yield list(slices.values())
            while True:
                async with aclosing(self._events(api, namespace, version)) as events:
                    async for event in events:
                        changed = event["object"]
                        if event["type"] == "ERROR":
                            raise _failure(changed.get("code"), changed.get("message"), namespace)
                        version = changed["metadata"]["resourceVersion"]
                        if event["type"] == "BOOKMARK":
                            continue
                        if event["type"] == "DELETED":
                            slices.pop(changed["metadata"]["name"], None)
                        else:
                            slices[changed["metadata"]["name"]] = changed
                        yield list(slices.values())
                # Without a delay, a server that ends every watch at once would be queried in a tight loop.
                await asyncio.sleep(_FIRST_BACKOFF_SECONDS)

    async def _events(self, api: "DiscoveryV1Api", namespace: str, version: str) -> AsyncGenerator[dict[str, Any]]:
        """What has happened since `version`, until the server ends the watch.

        Own code instead of kubernetes.aio's Watch, which opens a second client session for each watch, raises an
        expired version as any other error, and waits for a dead connection without limit.
        """
        query = {"resource_version": version, "allow_watch_bookmarks": True, "timeout_seconds": _WATCH_SECONDS}
        async with self._request(api, namespace, watch=True, **query) as answer:
            while True:
                async with asyncio.timeout(_WATCH_SECONDS + _ANSWER_SECONDS):
                    line = await answer.content.readline()
                if not line:
                    return
                yield json.loads(line)

    @asynccontextmanager
    async def _request(self, api: "DiscoveryV1Api", namespace: str, **query: Any) -> "AsyncGenerator[ClientResponse]":
        async with asyncio.timeout(_ANSWER_SECONDS):
            response = await api.list_namespaced_endpoint_slice_without_preload_content(
                namespace,
                label_selector=f"kubernetes.io/service-name={self._service.name}",
                _request_timeout=float(_WATCH_SECONDS + 2 * _ANSWER_SECONDS),
                **query,
            )
        async with response:
            if response.status != HTTPStatus.OK:
                raise _failure(response.status, response.reason, namespace)
            yield response


def ready_addresses(slices: Iterable[EndpointSlice], port: str | int) -> frozenset[str]:
    """host:port of the pods that are ready and not terminating; raises LookupError if there is no port of this name.

    A pod with an IPv4 and an IPv6 address is one replica.
    """
    by_pod: dict[str, str] = {}
    for item in sorted(slices, key=lambda item: item.get("addressType") == "IPv4"):
        ready = [endpoint for endpoint in item.get("endpoints") or () if _is_ready(endpoint.get("conditions") or {})]
        if not ready:
            continue
        number = port if isinstance(port, int) else _port_number(item, port)
        for endpoint in ready:
            # The API: the addresses of one endpoint are fungible.
            address = endpoint["addresses"][0]
            pod = (endpoint.get("targetRef") or {}).get("uid") or address
            by_pod[pod] = f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
    return frozenset(by_pod.values())


def _is_ready(conditions: dict[str, bool | None]) -> bool:
    # The API: an unknown readiness is to be taken for ready.
    return conditions.get("ready") is not False and conditions.get("terminating") is not True


def _port_number(item: EndpointSlice, name: str) -> int:
    ports = {listed.get("name") or "": listed.get("port") for listed in item.get("ports") or ()}
    number = ports.get(name)
    if number is None:
        raise LookupError(f"the service has no port {name}, only {', '.join(sorted(ports)) or 'none'}")
    return int(number)


def _failure(code: Any, message: Any, namespace: str) -> Exception:
    if code == HTTPStatus.GONE:
        return _VersionExpired()
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return PermissionError(
            f"{code} {message}: the service account needs list and watch on endpointslices (discovery.k8s.io) in the "
            f"namespace {namespace}"
        )
    return ConnectionError(f"the API server answers {code} {message}")


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError as error:
        raise LookupError(
            "outside of a pod the namespace must be named: kubernetes://namespace/service:port"
        ) from error


def _of_this_pod() -> "Configuration":
    from kubernetes.aio import config
    from kubernetes.aio.client import Configuration

    # The API server is never behind the proxy of the environment.
    configuration = Configuration(client_session_kwargs={"trust_env": False})
    config.load_incluster_config(configuration)
    return configuration
