"""What every service does the same way, as its callers see it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from tests import sleeper
from tests.scraping import free_port, has_ipv6
from tests.sleeper import SleeperSettings
from videoanalysis.calls import CallInterceptor
from videoanalysis.channels import connect
from videoanalysis.errors import NotFound, Overloaded
from videoanalysis.metrics import code_label
from videoanalysis.server import Server
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.error_reason_pb2 import ErrorReason

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ROOT = Path(__file__).parents[1]

Work = Callable[[grpc.aio.ServicerContext], Awaitable[None]]


# Health, reflection, address


@asynccontextmanager
async def listening(**settings: object) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    async with (
        Server(SleeperSettings(**settings), [sleeper.SERVICE]) as server,
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        yield server, channel


async def health(channel: grpc.aio.Channel, name: str) -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)).status


async def test_is_alive_at_once_and_ready_when_set():
    async with listening() as (server, channel):
        assert await health(channel, "liveness") == SERVING
        for ready, status in ((None, NOT_SERVING), (True, SERVING), (False, NOT_SERVING)):
            if ready is not None:
                server.set_ready(ready)
            for name in ("", "readiness", sleeper.SERVICE):
                assert await health(channel, name) == status
        assert await health(channel, "liveness") == SERVING


async def test_health_knows_no_other_names():
    async with listening() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await health(channel, "videoanalysis.test.Other")
        assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


async def reflected(channel: grpc.aio.Channel) -> set[str]:
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    async for response in stub.ServerReflectionInfo(iter(requests), timeout=5):
        return {service.name for service in response.list_services_response.service}
    return set()


async def test_reflection_names_the_service_health_and_itself():
    async with listening() as (_, channel):
        names = {sleeper.SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        assert await reflected(channel) == names


@pytest.mark.parametrize(
    ("symbol", "is_known"),
    [
        ("grpc.health.v1.Health", True),
        ("grpc.health.v1.Health.Check", True),
        ("grpc.health.v1.Health.Cheque", False),
        ("grpc.health.v2.Health.Check", False),
    ],
)
async def test_reflection_finds_services_and_methods_by_name(symbol: str, is_known: bool):
    async with listening() as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests), timeout=5)]
        assert [answer.WhichOneof("message_response") for answer in answers] == [
            "file_descriptor_response" if is_known else "error_response"
        ]


async def test_reflection_can_be_switched_off():
    async with listening(reflection=False) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await reflected(channel)
        assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_the_address_file_holds_the_port_that_the_system_chose(tmp_path):
    async with listening(address_file=tmp_path / "address") as (server, _):
        assert server.port > 0
        assert (tmp_path / "address").read_text() == f"127.0.0.1:{server.port}"
        assert [path.name for path in tmp_path.iterdir()] == ["address"]


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize(
    ("host", "callers"), [("::1", ["[::1]"]), ("::", ["[::1]", "127.0.0.1"]), ("0.0.0.0", ["[::1]", "127.0.0.1"])]
)
async def test_a_host_may_be_an_ipv6_address_and_a_wildcard_is_every_address(host, callers, tmp_path):
    async with Server(SleeperSettings(host=host, address_file=tmp_path / "address"), []) as server:
        for caller in callers:
            async with connect(f"{caller}:{server.port}") as channel:
                assert await health(channel, "liveness") == SERVING
        async with connect((tmp_path / "address").read_text()) as channel:
            assert await health(channel, "liveness") == SERVING


async def test_health_answers_the_same_on_a_port_of_its_own():
    async with listening(health_port=0) as (server, channel), connect(f"127.0.0.1:{server.health_port}") as probe:
        assert server.health_port != server.port
        for ready in (False, True):
            server.set_ready(ready)
            for name in ("", "liveness", "readiness", sleeper.SERVICE):
                assert await health(probe, name) == await health(channel, name)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await answers(probe.unary_stream(sleeper.METHOD)(b"0", timeout=5))
        assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_without_a_health_port_there_is_none():
    async with listening() as (server, _):
        assert server.health_port is None


async def test_a_port_in_use_is_refused():
    async with listening() as (server, _):
        with pytest.raises(RuntimeError, match="bind"):
            async with listening(port=server.port):
                pass


async def test_an_old_connection_is_closed_and_its_calls_finish():
    """Or else a caller that keeps one open would never find a replica that is new."""
    peers: list[str] = []
    released = asyncio.Event()

    async def work(context: grpc.aio.ServicerContext) -> None:
        peers.append(context.peer())
        if len(peers) == 1:
            await released.wait()

    server = Server(SleeperSettings(), [], connection_seconds=0.2)
    server.grpc.add_generic_rpc_handlers([Handlers(work)])
    async with server, connect(f"127.0.0.1:{server.port}") as channel:
        long = asyncio.create_task(answers(start(channel, "unary")))
        async with asyncio.timeout(8):
            while len(set(peers)) < 2:
                await asyncio.sleep(0.05)
                if peers:
                    await answers(start(channel, "unary"))
        released.set()
        assert await long == [b"answer"]


# Errors, from handlers of every form


class Handlers(grpc.GenericRpcHandler):
    """One method for each form that a handler can have; each awaits `work`, those that stream after a first answer."""

    def __init__(self, work: Work, package: str = "videoanalysis.test") -> None:
        async def unary(request, context):
            await work(context)
            return b"answer"

        async def generator(request, context):
            yield b"answer"
            await work(context)

        async def coroutine(request, context):
            await context.write(b"answer")
            await work(context)

        self._methods = {
            f"/{package}/unary": grpc.unary_unary_rpc_method_handler(unary),
            f"/{package}/upload": grpc.stream_unary_rpc_method_handler(unary),
            f"/{package}/generator": grpc.unary_stream_rpc_method_handler(generator),
            f"/{package}/coroutine": grpc.unary_stream_rpc_method_handler(coroutine),
            f"/{package}/generator_chat": grpc.stream_stream_rpc_method_handler(generator),
            f"/{package}/coroutine_chat": grpc.stream_stream_rpc_method_handler(coroutine),
        }

    def service(self, call):
        return self._methods.get(call.method)


FORMS = ["unary", "upload", "generator", "coroutine", "generator_chat", "coroutine_chat"]


@asynccontextmanager
async def serving(work: Work, package: str = "videoanalysis.test") -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    server.add_generic_rpc_handlers([Handlers(work, package)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def start(
    channel: grpc.aio.Channel, form: str, package: str = "videoanalysis.test", timeout: float = 10
) -> grpc.aio.Call:
    method, kind = f"/{package}/{form}", form.partition("_")[::2]
    match kind:
        case "unary", _:
            return channel.unary_unary(method)(b"", timeout=timeout)
        case "upload", _:
            return channel.stream_unary(method)(iter([b""]), timeout=timeout)
        case _, "chat":
            return channel.stream_stream(method)(iter([b""]), timeout=timeout)
    return channel.unary_stream(method)(b"", timeout=timeout)


async def answers(call: grpc.aio.Call) -> list[bytes]:
    return [answer async for answer in call] if hasattr(call, "__aiter__") else [await call]


async def failure(channel: grpc.aio.Channel, form: str, package: str = "videoanalysis.test") -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answers(start(channel, form, package))
    return caught.value


def raising(error: BaseException) -> Work:
    async def work(context):
        raise error

    return work


async def nothing(context) -> None: ...


@pytest.mark.parametrize("form", FORMS)
async def test_a_handler_that_raises_nothing_answers(form):
    async with serving(nothing) as channel:
        assert await answers(start(channel, form)) == [b"answer"]


@pytest.mark.parametrize("form", FORMS)
async def test_a_service_error_reaches_the_caller_as_its_status_with_details(form):
    error = Overloaded(
        "four videos are in progress", retry_after_seconds=2.5, reason=ErrorReason.SCRATCH_FULL, field="video_uri"
    )
    async with serving(raising(error)) as channel:
        caught = await failure(channel, form)
    assert (caught.code(), caught.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "four videos are in progress")
    received = from_rpc_error(caught)
    assert isinstance(received, Overloaded)
    assert (received.reason, received.field, received.retry_after_seconds) == (
        ErrorReason.SCRATCH_FULL,
        "video_uri",
        2.5,
    )


@pytest.mark.parametrize("form", FORMS)
async def test_a_bug_is_a_bare_internal_to_the_caller_and_a_traceback_in_the_log(form, capsys):
    async with serving(raising(KeyError("the combination of the safe"))) as channel:
        caught = await failure(channel, form)
    assert (caught.code(), caught.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert not caught.trailing_metadata()
    logged = capsys.readouterr()
    assert "the combination of the safe" in logged.out + logged.err
    assert "Traceback" in logged.out + logged.err


@pytest.mark.parametrize("form", FORMS)
async def test_a_status_that_the_handler_set_itself_stays(form):
    async def work(context):
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "there it is")

    async with serving(work) as channel:
        caught = await failure(channel, form)
    assert (caught.code(), caught.details()) == (grpc.StatusCode.ALREADY_EXISTS, "there it is")


@pytest.mark.parametrize("form", FORMS)
async def test_a_cancellation_that_does_not_come_from_the_caller_is_a_bug_and_answered(form):
    async with serving(raising(asyncio.CancelledError())) as channel:
        caught = await failure(channel, form)
    assert caught.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("form", FORMS)
async def test_a_caller_that_leaves_cancels_the_handler_and_one_line_is_logged(form, capfd):
    entered, left = asyncio.Event(), asyncio.Event()

    async def work(context):
        entered.set()
        try:
            await asyncio.sleep(30)
        finally:
            left.set()

    async with serving(work) as channel:
        call = start(channel, form)
        await asyncio.wait_for(entered.wait(), 5)
        call.cancel()
        await asyncio.wait_for(left.wait(), 5)
        await asyncio.sleep(0.05)
        written = capfd.readouterr()
        assert written.err == ""
        assert len(written.out.splitlines()) == written.out.count("status=CANCELLED") == 1


@pytest.mark.parametrize("form", FORMS)
async def test_an_error_raised_because_the_caller_left_logs_no_traceback(form, capfd):
    entered, left = asyncio.Event(), asyncio.Event()

    async def work(context):
        entered.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as error:
            raise NotFound("half a video is none") from error
        finally:
            left.set()

    async with serving(work) as channel:
        call = start(channel, form)
        await asyncio.wait_for(entered.wait(), 5)
        call.cancel()
        await asyncio.wait_for(left.wait(), 5)
        await asyncio.sleep(0.05)
        logged, printed = capfd.readouterr()
        assert "Traceback" not in logged
        assert printed == ""


@pytest.mark.parametrize("form", ["coroutine", "generator", "coroutine_chat"])
async def test_a_caller_that_leaves_while_a_write_is_blocked_has_cancelled_its_call(form, capfd):
    counted = Counted(form)
    writes = 0

    async def write(request, context):
        nonlocal writes
        while True:
            writes += 1
            await context.write(bytes(1 << 20))

    async def generate(request, context):
        nonlocal writes
        while True:
            writes += 1
            yield bytes(1 << 20)

    method = {
        "coroutine": grpc.unary_stream_rpc_method_handler(write),
        "generator": grpc.unary_stream_rpc_method_handler(generate),
        "coroutine_chat": grpc.stream_stream_rpc_method_handler(write),
    }[form]
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("videoanalysis.test", {form: method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        call = start(channel, form)
        written = 0
        while writes == 0 or writes > written:  # until flow control stops them: the caller reads nothing
            written = writes
            await asyncio.sleep(0.2)
        call.cancel()
        await until_counted(counted, "timed")
    await server.stop(None)
    assert counted() == {"started": 1, "timed": 1, "Canceled": 1}
    logged, printed = capfd.readouterr()
    assert "Traceback" not in logged + printed
    assert "bug" not in logged


@pytest.mark.parametrize("form", FORMS)
async def test_a_failed_task_group_does_not_pass_for_a_caller_that_left(form):
    # Up to Python 3.12 a group whose task fails while the group is being left leaves a request to cancel behind.
    async def fail():
        await asyncio.sleep(0)
        raise NotFound("no such thing")

    async def work(context):
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async with serving(work) as channel:
        caught = await asyncio.wait_for(failure(channel, form), 10)
    assert caught.code() == grpc.StatusCode.NOT_FOUND


# Metrics, of handlers of every form


class Counted:
    """What has been counted since `counted` was made, of a method of the tests' package."""

    def __init__(self, form: str) -> None:
        kind = {"unary": "unary", "upload": "client_stream", "generator": "server_stream", "coroutine": "server_stream"}
        self._labels = {
            "grpc_type": kind.get(form, "bidi_stream"),
            "grpc_service": "videoanalysis.test",
            "grpc_method": form,
        }
        self._before = self._all()

    def _all(self) -> dict[str, float]:
        codes = {code: {**self._labels, "grpc_code": code} for code in map(code_label, grpc.StatusCode)}
        read = {code: REGISTRY.get_sample_value("grpc_server_handled_total", labels) for code, labels in codes.items()}
        read["started"] = REGISTRY.get_sample_value("grpc_server_started_total", self._labels)
        read["timed"] = REGISTRY.get_sample_value("grpc_server_handling_seconds_count", self._labels)
        return {name: number or 0 for name, number in read.items()}

    def __call__(self) -> dict[str, float]:
        return {
            name: number - self._before[name] for name, number in self._all().items() if number != self._before[name]
        }


async def set_not_found(context) -> None:
    context.set_code(grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("work", "code"),
    [(nothing, "OK"), (raising(Overloaded("full")), "ResourceExhausted"), (set_not_found, "NotFound")],
)
@pytest.mark.parametrize("form", FORMS)
async def test_a_call_is_counted_under_the_status_of_its_caller(form, work, code):
    counted = Counted(form)
    async with serving(work) as channel:
        with suppress(grpc.aio.AioRpcError):
            await answers(start(channel, form))
    assert counted() == {"started": 1, "timed": 1, code: 1}


@pytest.mark.parametrize("error", [KeyError("bug"), asyncio.CancelledError()])
async def test_a_bug_is_counted_as_such(error):
    counted = Counted("generator")
    async with serving(raising(error)) as channel:
        await failure(channel, "generator")
    assert counted() == {"started": 1, "timed": 1, "Internal": 1}


@pytest.mark.parametrize("form", FORMS)
async def test_a_call_is_handled_with_its_last_message_and_not_with_its_first(form):
    counted, go_on = Counted(form), asyncio.Event()

    async def work(context):
        await go_on.wait()

    async with serving(work) as channel:
        call = start(channel, form)
        messages = aiter(call) if hasattr(call, "__aiter__") else None
        if messages is not None:
            assert await anext(messages) == b"answer"
        await until_counted(counted, "started")
        assert counted() == {"started": 1}
        go_on.set()
        if messages is not None:
            assert [message async for message in messages] == []
        else:
            assert await call == b"answer"
    assert counted() == {"started": 1, "timed": 1, "OK": 1}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("leaves", "code"), [(True, "Canceled"), (False, "DeadlineExceeded")])
async def test_a_caller_that_leaves_is_distinguished_from_one_whose_deadline_passes(form, leaves, code):
    counted = Counted(form)

    async def work(context):
        await asyncio.sleep(30)

    async with serving(work) as channel:
        call = start(channel, form, timeout=10 if leaves else 0.2)
        await until_counted(counted, "started")
        if leaves:
            call.cancel()
        await until_counted(counted, "timed")
    assert counted() == {"started": 1, "timed": 1, code: 1}


async def test_calls_of_other_services_are_not_counted():
    labels = {"grpc_type": "unary", "grpc_service": "grpc.health.v1.Health", "grpc_method": "unary"}
    async with serving(nothing, package="grpc.health.v1.Health") as channel:
        await answers(start(channel, "unary", package="grpc.health.v1.Health"))
    assert REGISTRY.get_sample_value("grpc_server_started_total", labels) is None


async def test_refusals_are_counted_by_reason():
    def refused() -> float:
        labels = {"grpc_service": "videoanalysis.test", "reason": "SCRATCH_FULL"}
        return REGISTRY.get_sample_value("videoanalysis_refused_total", labels) or 0

    before = refused()
    for error in (
        Overloaded("full", reason=ErrorReason.SCRATCH_FULL),
        NotFound("none", reason=ErrorReason.SCRATCH_FULL),
    ):
        async with serving(raising(error)) as channel:
            await failure(channel, "unary")
    assert refused() == before + 1


async def until_counted(counted: Counted, name: str) -> None:
    for _ in range(1000):
        if name in counted():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


# Signals, to a process


@asynccontextmanager
async def process(tmp_path: Path, **settings: object) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {f"SLEEPER_{name.upper()}": str(value) for name, value in settings.items()}
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, sleeper.__file__),
        cwd=ROOT,
        env=os.environ | {"SLEEPER_ADDRESS_FILE": str(tmp_path / "address"), "PYTHONPATH": str(ROOT)} | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


@asynccontextmanager
async def connected(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the process once it is ready."""
    for _ in range(1000):
        if (tmp_path / "address").exists():
            break
        await asyncio.sleep(0.02)
    async with connect((tmp_path / "address").read_text()) as channel:
        await until_health(channel, "readiness", SERVING)
        yield channel


async def until_health(channel: grpc.aio.Channel, name: str, status: int) -> None:
    for _ in range(500):
        if await health(channel, name) == status:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_sigterm_ends_readiness_then_new_calls_and_lets_calls_in_progress_finish(tmp_path):
    async with process(tmp_path, drain_delay_seconds=0.2) as started, connected(tmp_path) as channel:
        sleep = channel.unary_stream(sleeper.METHOD)
        call = sleep(b"0.8", timeout=10)
        assert await call.read() == b"asleep"
        started.send_signal(signal.SIGTERM)
        await until_health(channel, "readiness", NOT_SERVING)
        assert await answers(sleep(b"0", timeout=5)) == [b"asleep", b"awake"]
        await asyncio.sleep(0.3)  # Past the drain delay: new calls are refused from here on.
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await answers(sleep(b"0", timeout=5))
        assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await call.read() == b"awake"
        assert await asyncio.wait_for(started.wait(), 5) == 0


async def test_the_health_port_answers_to_the_end_of_the_drain(tmp_path):
    port = free_port()
    async with (
        process(tmp_path, health_port=port) as started,
        connected(tmp_path) as channel,
        connect(f"127.0.0.1:{port}") as probe,
    ):
        call = channel.unary_stream(sleeper.METHOD)(b"1", timeout=10)
        assert await call.read() == b"asleep"
        started.send_signal(signal.SIGTERM)
        await until_health(probe, "readiness", NOT_SERVING)
        for _ in range(500):  # Until the service itself takes no more calls.
            try:
                await health(channel, "liveness")
            except grpc.aio.AioRpcError:
                break
            await asyncio.sleep(0.01)
        assert await health(probe, "liveness") == SERVING
        assert await health(probe, "readiness") == NOT_SERVING
        assert await call.read() == b"awake"
        assert await asyncio.wait_for(started.wait(), 5) == 0


async def test_health_watchers_are_notified_of_the_drain_and_do_not_delay_it(tmp_path):
    request = health_pb2.HealthCheckRequest(service="readiness")
    drain = {"drain_delay_seconds": 0.2, "grace_seconds": 100}
    async with process(tmp_path, **drain) as started, connected(tmp_path) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=110)
        assert (await watch.read()).status == SERVING
        started.send_signal(signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        assert await asyncio.wait_for(started.wait(), 10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_call_longer_than_the_grace_is_ended(tmp_path, number):
    async with process(tmp_path, grace_seconds=0.1) as started, connected(tmp_path) as channel:
        call = channel.unary_stream(sleeper.METHOD)(b"60", timeout=70)
        assert await call.read() == b"asleep"
        started.send_signal(number)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await asyncio.wait_for(started.wait(), 5) == 0


async def test_before_it_listens_a_process_ends_at_once(tmp_path):
    async with process(tmp_path, start_seconds=60) as started:
        assert await started.stdout.readline() == b"starting\n"
        started.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(started.wait(), 5) == 128 + signal.SIGTERM
