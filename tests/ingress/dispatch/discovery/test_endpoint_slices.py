"""The real client against a stand-in API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from services.ingress.dispatch.discovery.endpoint_slices import EndpointSlices, ready_addresses
from services.ingress.dispatch.discovery.location import KubernetesService
from tests.ingress.dispatch.discovery.api_server import POD, ApiServer, api_server, endpoint_slice

ENCODER = KubernetesService("videos", "encoder", "grpc")


class Watcher:
    """Asks for the next change of the addresses."""

    def __init__(self, changes: AsyncIterator[frozenset[str]]) -> None:
        self._changes = changes

    async def next(self) -> set[str]:
        async with asyncio.timeout(5):
            return set(await anext(self._changes))


@asynccontextmanager
async def watching(*slices: dict, service: KubernetesService = ENCODER) -> AsyncIterator[tuple[ApiServer, Watcher]]:
    async with api_server() as server:
        for item in slices:
            await server.put(item)
        async with aclosing(EndpointSlices(service, server.configuration).watch()) as changes:
            yield server, Watcher(changes)


async def test_the_slices_of_a_service_are_one_set():
    async with watching(endpoint_slice("a", "10.0.0.1", "10.0.0.2"), endpoint_slice("b", "10.0.0.3")) as (_, watcher):
        assert await watcher.next() == {"10.0.0.1:50052", "10.0.0.2:50052", "10.0.0.3:50052"}


async def test_reports_added_and_removed_pods():
    async with watching(endpoint_slice("a", "10.0.0.1")) as (server, watcher):
        assert await watcher.next() == {"10.0.0.1:50052"}
        await server.put(endpoint_slice("b", "10.0.0.2"))
        assert await watcher.next() == {"10.0.0.1:50052", "10.0.0.2:50052"}
        await server.put(endpoint_slice("b", "10.0.0.4"))
        assert await watcher.next() == {"10.0.0.1:50052", "10.0.0.4:50052"}
        await server.delete("a")
        assert await watcher.next() == {"10.0.0.4:50052"}
        await server.put(endpoint_slice("b"))
        assert await watcher.next() == set()


async def test_a_terminating_pod_is_left_out_before_it_is_removed():
    async with watching(endpoint_slice("a", "10.0.0.1"), endpoint_slice("b", "10.0.0.2")) as (server, watcher):
        assert len(await watcher.next()) == 2
        await server.put(endpoint_slice("a", "10.0.0.1", conditions=POD | {"terminating": True}))
        assert await watcher.next() == {"10.0.0.2:50052"}


async def test_a_change_that_makes_no_difference_is_not_reported():
    async with watching(endpoint_slice("a", "10.0.0.1")) as (server, watcher):
        await watcher.next()
        await server.put(endpoint_slice("b", "10.0.0.1"))
        await server.put(endpoint_slice("b", "10.0.0.2"))
        assert await watcher.next() == {"10.0.0.1:50052", "10.0.0.2:50052"}


async def test_a_watch_whose_time_is_over_goes_on_where_it_was():
    async with watching(endpoint_slice("a", "10.0.0.1")) as (server, watcher):
        await watcher.next()
        following = asyncio.ensure_future(watcher.next())
        await server.until_watched()
        await server.bookmark()
        await server.end_watches()
        await server.until_watched(2)
        await server.put(endpoint_slice("b", "10.0.0.2"))
        assert await following == {"10.0.0.1:50052", "10.0.0.2:50052"}
        assert server.lists == 1
        assert [watch["resourceVersion"] for watch in server.watches] == ["1", "2"]
        assert all(int(watch["timeoutSeconds"]) <= 60 for watch in server.watches)


async def test_a_version_that_the_server_has_forgotten_leads_to_a_new_list():
    async with watching(endpoint_slice("a", "10.0.0.1")) as (server, watcher):
        await watcher.next()
        following = asyncio.ensure_future(watcher.next())
        await server.until_watched()
        server.slices["b"] = endpoint_slice("b", "10.0.0.2")  # The watch gets no event of it.
        await server.forget()
        assert await following == {"10.0.0.1:50052", "10.0.0.2:50052"}
        assert server.lists == 2


@pytest.mark.parametrize("refusal", [403, 500])
async def test_while_the_server_fails_the_last_addresses_are_kept_and_that_is_logged_once(capfd, refusal):
    async with watching(endpoint_slice("a", "10.0.0.1")) as (server, watcher):
        await watcher.next()
        following = asyncio.ensure_future(watcher.next())
        await server.until_watched()
        server.refuse_with = refusal
        server.cut_connections()
        await asyncio.sleep(0.5)
        assert not following.done()
        server.refuse_with = None
        await server.put(endpoint_slice("b", "10.0.0.2"))
        assert await following == {"10.0.0.1:50052", "10.0.0.2:50052"}
    logged = capfd.readouterr().out
    assert logged.count("discovery fails") == 1
    assert logged.count("discovery works again") == 1


async def test_without_the_right_to_list_the_missing_permission_is_named(capfd):
    async with watching() as (server, watcher):
        server.refuse_with = 403
        waiting = asyncio.ensure_future(watcher.next())
        await asyncio.sleep(0.5)
        assert "list and watch on endpointslices" in capfd.readouterr().out
        server.refuse_with = None
        await server.put(endpoint_slice("a", "10.0.0.1"))
        assert await waiting == {"10.0.0.1:50052"}


async def test_leaving_ends_the_watch_at_once():
    async with watching(endpoint_slice("a", "10.0.0.1")) as (server, watcher):
        await watcher.next()
        following = asyncio.ensure_future(watcher.next())
        await server.until_watched()
        following.cancel()
        async with asyncio.timeout(1):
            await asyncio.wait([following])
        assert following.cancelled()


def test_what_is_not_said_about_readiness_is_ready():
    assert ready_addresses([endpoint_slice("a", "10.0.0.1", conditions={})], 1) == {"10.0.0.1:1"}
    assert ready_addresses([endpoint_slice("a", "10.0.0.1", conditions={"ready": False})], 1) == set()
    nothing_said = {"addresses": ["10.0.0.1"]}
    assert ready_addresses([{"metadata": {"name": "a"}, "endpoints": [nothing_said]}], 1) == {"10.0.0.1:1"}


def test_a_pod_with_two_addresses_is_one_replica():
    four = endpoint_slice("four", "10.0.0.1", pods=("uid-1",))
    six = endpoint_slice("six", "fd00::1", "fd00::2", pods=("uid-1", "uid-2"))
    assert ready_addresses([four, six], "grpc") == {"10.0.0.1:50052", "[fd00::2]:50052"}


def test_a_port_is_named_or_a_number_on_the_pods():
    named = endpoint_slice("a", "10.0.0.1", port=7, port_name="grpc")
    assert ready_addresses([named], "grpc") == {"10.0.0.1:7"}
    assert ready_addresses([named], 9) == {"10.0.0.1:9"}
    with pytest.raises(LookupError, match="no port http, only grpc"):
        ready_addresses([named], "http")
