import asyncio

import grpc
import pytest

from services.ingress.admission import Deadline
from services.ingress.dispatch.discovery import Static
from services.ingress.dispatch.replica import Replica, ReplicaTls
from services.ingress.dispatch.replicas import Replicas
from services.ingress.dispatch.retry import call
from tests.ingress.announced import Announced
from tests.ingress.dispatch.behaviour import SOON, Behaviour, discovered
from tests.ingress.waiting import until
from videoanalysis.errors import DeadlineExceeded, Overloaded, Unavailable
from videoanalysis.reloaded_files import ReloadedFiles
from videoanalysis.server_tls import ServerTls
from videoanalysis.stack.certificates import CertificateAuthority
from videoanalysis.tls import channel_credentials
from videoanalysis.v1.error_reason_pb2 import ErrorReason


async def updated() -> None:
    """Waits until the published addresses have been applied."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_added_replica_is_called_and_a_removed_one_is_not():
    discovery, behaviour = Announced("a:1"), Behaviour()
    async with discovered(discovery) as pool:
        assert await call(pool, behaviour, Deadline.after(SOON)) == "ok from a"
        discovery.publish("b:1")
        await updated()
        for _ in range(5):
            assert await call(pool, behaviour, Deadline.after(SOON)) == "ok from b"


async def test_a_call_waits_for_the_first_replica_and_is_woken_when_it_is_there():
    discovery = Announced()
    async with discovered(discovery) as pool:
        waiting = asyncio.ensure_future(call(pool, Behaviour(), Deadline.after(SOON)))
        await asyncio.sleep(0.7)  # By now it looks about once a second.
        assert not waiting.done()
        discovery.publish("a:1")
        await updated()
        assert waiting.done()
        assert await waiting == "ok from a"


async def test_a_call_that_all_have_refused_is_woken_by_a_new_replica():
    discovery, behaviour = Announced("a:1"), Behaviour(a=Overloaded("busy"))
    async with discovered(discovery) as pool:
        waiting = asyncio.ensure_future(call(pool, behaviour, Deadline.after(SOON)))
        await asyncio.sleep(0.3)
        discovery.publish("a:1", "b:1")
        await updated()
        assert waiting.done()
        assert await waiting == "ok from b"


async def test_without_any_replica_the_service_is_unavailable_in_the_end():
    async with discovered(Announced(), wait_seconds=0.1) as pool:
        with pytest.raises(Unavailable) as caught:
            await call(pool, Behaviour(), Deadline.after(SOON))
        assert caught.value.reason == ErrorReason.ENCODER_UNAVAILABLE
        with pytest.raises(DeadlineExceeded):
            await call(pool, Behaviour(), Deadline.after(0.01))


async def test_an_attempt_in_progress_finishes_at_a_removed_replica_whose_channel_then_closes():
    discovery, entered, release = Announced("a:1"), asyncio.Event(), asyncio.Event()
    closed = grpc.ChannelConnectivity.SHUTDOWN
    seen = []

    async def attempt(replica: Replica, seconds: float) -> str:
        seen.append(replica)
        entered.set()
        await release.wait()
        assert replica.channel.get_state() is not closed
        return "done"

    async with discovered(discovery) as pool:
        waiting = asyncio.ensure_future(call(pool, attempt, Deadline.after(SOON)))
        await entered.wait()
        discovery.publish()
        await updated()
        release.set()
        assert await waiting == "done"
        assert seen[0].channel.get_state() is closed


async def test_new_attempts_present_a_rotated_certificate_and_those_in_progress_end_undisturbed(tmp_path):
    authority = CertificateAuthority(tmp_path)
    own, server_files = authority.issue("ingress"), authority.issue("encoder")
    release = asyncio.Event()

    async def certificate(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if request == b"wait":
            await release.wait()
        return b"".join(context.auth_context()["x509_pem_cert"])

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(certificate)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", {"certificate": handler})])
    server_tls = ServerTls("TEST", server_files)
    port = server.add_secure_port("127.0.0.1:0", server_tls.grpc_credentials())
    await server.start()
    tls = ReplicaTls(ReloadedFiles("TEST", own.paths, lambda: channel_credentials(own)), "encoder")
    try:
        async with Replicas(
            "encoder", Static([f"127.0.0.1:{port}"]), attempt_seconds=10, wait_seconds=5, tls=tls
        ) as pool:

            async def attempt(request: bytes) -> bytes:
                (replica,) = pool.by_address.values()
                replica.begin()
                try:
                    return await replica.channel.unary_unary("/test/certificate")(request, timeout=20)
                finally:
                    await replica.end()

            before = own.cert.read_bytes()
            in_progress = asyncio.create_task(attempt(b"wait"))
            assert await attempt(b"") == before
            (old,) = pool.by_address.values()
            authority.issue("ingress")
            await until(lambda: old not in pool.by_address.values())
            assert await attempt(b"") == own.cert.read_bytes() != before
            release.set()
            assert await in_progress == before
            assert old.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    finally:
        await server.stop(0)
