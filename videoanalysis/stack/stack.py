"""The three services and an S3 server as processes on one machine, on loopback."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from videoanalysis.channels import connect
from videoanalysis.stack import bundled_model, source_tree
from videoanalysis.stack.certificates import CertificateAuthority
from videoanalysis.stack.child_process import ChildProcess
from videoanalysis.stack.service_environment import (
    BUCKET,
    CREDENTIALS,
    REGION,
    Kind,
    inherited_environment,
    overridden_variable,
    service_environment,
    variables,
)
from videoanalysis.stack.work_directory import WorkDirectory
from videoanalysis.status import from_rpc_error
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.tls import TlsFiles, channel_credentials
from videoanalysis.v1.decoder_pb2 import ListTextBanksRequest
from videoanalysis.v1.decoder_pb2_grpc import DecoderServiceStub
from videoanalysis.v1.encoder_pb2 import GetModelRequest, ModelInfo
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

Engine = Literal["siglip", "synthetic"]

_BANK = "default"
_BANKS = f"s3://{BUCKET}/textbanks/"

_POLL_SECONDS = 0.05
_CALL_SECONDS = 10
_START_SECONDS = 120
# A large checkpoint may have to be downloaded first.
_HUB_START_SECONDS = 3600
# From SIGTERM to SIGKILL; longer than the grace that the services give their calls.
_STOP_SECONDS = 10

_Result = TypeVar("_Result")


class StackError(Exception):
    """The stack cannot start or continue; the message names the process and ends with its log."""


class Stack:
    """Entering it starts everything and waits for readiness; leaving it stops everything and removes its files.

    `model` is a directory or a hub id, by default the bundled model. `settings` are settings of the services, e.g.
    {"encoder": {"max_in_flight": 1}}; environment variables such as ENCODER_MAX_IN_FLIGHT apply as well, but for those
    that connect the services to each other. `port` is that of the first ingress, the others get the next ones; 0 lets
    the system choose. `on_step` is called with a description of each step. With `tls`, a throw-away CA issues
    certificates for the services; encoders and decoders also require one of their callers. Entering raises StackError
    or ServiceError.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        engine: Engine = "siglip",
        ingresses: int = 1,
        encoders: int = 1,
        decoders: int = 1,
        tls: bool = False,
        port: int = 0,
        settings: Mapping[Kind, Mapping[str, object]] | None = None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._engine = engine
        self._counts: dict[Kind, int] = {"ingress": ingresses, "encoder": encoders, "decoder": decoders}
        self._with_tls = tls
        self._port = port
        self._settings = settings or {}
        self._on_step = on_step
        self._work_directory: WorkDirectory | None = None
        # All processes, services included. If one ends, the stack fails.
        self._children: list[ChildProcess] = []
        self.services: dict[Kind, list[ChildProcess]] = {"ingress": [], "encoder": [], "decoder": []}
        self.s3_endpoint = ""
        # With TLS, the files of a caller of any service.
        self.tls: TlsFiles | None = None
        # The model of the encoders.
        self.model = ModelInfo()

    @property
    def _directory(self) -> Path:
        assert self._work_directory is not None
        return self._work_directory.path

    @property
    def address(self) -> str:
        """host:port of the first ingress."""
        return self.services["ingress"][0].address

    @property
    def directory(self) -> Path:
        """Of its logs and temporary files, removed at the end."""
        return self._directory

    async def __aenter__(self) -> Self:
        if problem := source_tree.missing_services():
            raise StackError(problem)
        if (message := overridden_variable()) is not None:
            raise StackError(message)
        self._work_directory = WorkDirectory()
        try:
            if self._with_tls:
                self.authority = CertificateAuthority(self._directory)
                self.tls = self.authority.issue("client")
            await self.guard(self._start())
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def upload(self, path: Path) -> str:
        """Put a file into the stack's bucket; returns its URI."""
        uri = S3Uri(BUCKET, f"videos/{path.name}")
        with await asyncio.to_thread(path.open, "rb") as file:
            async with self._storage() as storage:
                await storage.write(uri, file, "application/octet-stream")
        return str(uri)

    async def restart(self, child: ChildProcess, **settings: object) -> None:
        """Restart a service at the same address and wait until it is ready; kills it first if it still runs.

        `settings` override those it had, e.g. synthetic_embedding_dim=96 for an encoder with another model. Raises
        StackError.
        """
        kind = next(kind for kind, children in self.services.items() if child in children)
        self._address_file(child.name).unlink(missing_ok=True)
        chosen = {"port": int(child.address.rpartition(":")[2]), **settings}
        child.restart(variables(kind, chosen))
        await self._until_ready(child, _START_SECONDS)

    async def guard(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """The result of `work`. If a process of the stack ends, `work` is cancelled and StackError raised."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_POLL_SECONDS)
                for child in self._children:
                    if child.exit_code is not None:
                        raise StackError(child.report())
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                # Retrieved, so that asyncio does not log it: StackError describes the same failure.
                task.exception()

    async def _start(self) -> None:
        await _gather(self._start_encoders(), self._start_storage_and_decoders())
        await _gather(self._start_ingresses(), self.provide_bank())

    async def _start_encoders(self) -> None:
        if self._engine == "synthetic":
            wiring, seconds = {"engine": "synthetic"}, _START_SECONDS
        else:
            model = _absolute(self._model or str(bundled_model.DIRECTORY))
            self._on_step("loading the model")
            wiring = {"engine": "siglip", "model": model}
            seconds = _HUB_START_SECONDS if self._model else _START_SECONDS
        await self._start_services("encoder", wiring, seconds)
        async with self._connect(self.services["encoder"][0]) as channel:
            stub = EncoderServiceStub(channel)  # type: ignore[no-untyped-call]
            self.model = (await stub.GetModel(GetModelRequest(), timeout=_CALL_SECONDS)).model

    async def _start_storage_and_decoders(self) -> None:
        self._on_step("starting the decoder and an S3 server")
        server = self._spawn(
            "s3",
            ["videoanalysis.stack.s3_server", str(self._address_file("s3"))],
            inherited_environment(self._directory),
        )
        await self._until_listening(server, _START_SECONDS)
        self.s3_endpoint = f"http://{server.address}"
        async with self._storage() as storage:
            await storage.create_bucket(BUCKET)
        await self._start_services("decoder", {"banks": _BANKS, **self._s3_settings()}, _START_SECONDS)

    async def _start_ingresses(self) -> None:
        self._on_step("starting the ingress")
        wiring = {
            "encoders": [encoder.address for encoder in self.services["encoder"]],
            "decoders": [decoder.address for decoder in self.services["decoder"]],
            "image_size": self.model.image_size,
            # Every ingress accepts the resume tokens of the others.
            "resume_keys": [secrets.token_hex(32)],
            **self._s3_settings(),
            **self._upstream_tls(),
        }
        await self._start_services("ingress", wiring, _START_SECONDS)

    async def provide_bank(self, encoder: ChildProcess | None = None) -> None:
        """Build the default bank for the model of `encoder`, by default the first; banks of other models stay.

        Returns when every decoder serves it.
        """
        self._on_step("building the text bank")
        async with self._connect(encoder or self.services["encoder"][0]) as channel:
            texts = bundled_model.TEXTS if self.model.digest == bundled_model.DIGEST else _BANK
            bank = await bank_builder.build(source_tree.ROOT / "textbanks" / texts, name=_BANK, encoder=channel)
        async with self._storage() as storage:
            model_hash = bank.model_digest.rpartition(":")[2]
            uri = S3Uri.parse(f"{_BANKS}{_BANK}-{model_hash}.safetensors", "banks")
            await storage.write(uri, bank.to_bytes(), "application/octet-stream")
        await _gather(*(self._until_listed(decoder, bank.digest) for decoder in self.services["decoder"]))

    async def _start_services(self, kind: Kind, wiring: Mapping[str, object], seconds: float) -> None:
        for number in range(self._counts[kind]):
            name = f"{kind}-{number}"
            port = self._port + number if self._port and kind == "ingress" else 0
            listening = {"host": "127.0.0.1", "port": port, "address_file": self._address_file(name)}
            environment = service_environment(
                kind,
                {**wiring, **listening, **self._server_tls(kind)},
                self._settings.get(kind, {}),
                directory=self._directory,
                encoders=self._counts["encoder"],
            )
            self.services[kind].append(self._spawn(name, [f"services.{kind}"], environment))
        await _gather(*(self._until_ready(child, seconds) for child in self.services[kind]))

    def _server_tls(self, kind: Kind) -> dict[str, object]:
        if self.tls is None:
            return {}
        files = self.authority.issue(kind, ["localhost", "127.0.0.1"])
        # Callers of an ingress authenticate by token, if at all.
        of_callers = {} if kind == "ingress" else {"tls_client_ca": files.ca}
        return {"tls_cert": files.cert, "tls_key": files.key, **of_callers}

    def _upstream_tls(self) -> dict[str, object]:
        if self.tls is None:
            return {}
        files = self.authority.issue("ingress-client")
        return {"upstream_tls_ca": files.ca, "upstream_tls_cert": files.cert, "upstream_tls_key": files.key}

    def _connect(self, child: ChildProcess) -> grpc.aio.Channel:
        return connect(child.address, credentials=channel_credentials(self.tls) if self.tls else None)

    def _spawn(self, name: str, module: list[str], environment: Mapping[str, str]) -> ChildProcess:
        child = self._child(name, module, environment)
        self._children.append(child)
        return child

    def _child(self, name: str, module: list[str], environment: Mapping[str, str]) -> ChildProcess:
        return ChildProcess(name, module, directory=self._directory, cwd=source_tree.ROOT, environment=environment)

    async def _until_listening(self, child: ChildProcess, seconds: float) -> None:
        async with _timeout(seconds, child):
            address = ""
            while not address:
                await _poll(child)
                with suppress(FileNotFoundError):
                    address = child.address = self._address_file(child.name).read_text()

    async def _until_ready(self, child: ChildProcess, seconds: float) -> None:
        await self._until_listening(child, seconds)
        async with _timeout(seconds, child), self._connect(child) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            status = health_pb2.HealthCheckResponse.UNKNOWN
            while status != health_pb2.HealthCheckResponse.SERVING:
                await _poll(child)
                status = (await health.Check(health_pb2.HealthCheckRequest(service="readiness"))).status

    async def _until_listed(self, decoder: ChildProcess, digest: str) -> None:
        async with _timeout(_START_SECONDS, decoder), self._connect(decoder) as channel:
            stub = DecoderServiceStub(channel)  # type: ignore[no-untyped-call]
            digests: set[str] = set()
            while digest not in digests:
                await asyncio.sleep(_POLL_SECONDS)
                listed = await stub.ListTextBanks(ListTextBanksRequest())
                digests = {bank.digest for bank in listed.text_banks}

    async def _stop(self) -> None:
        """Stop the ingresses first, then encoders, decoders and S3; after a timeout, or if cancelled, kill them."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                for kind in ("ingress", "encoder", "decoder"):
                    await _finish(self.services[kind])
                await _finish(self._children)
        except TimeoutError:
            pass
        finally:
            for child in self._children:
                child.kill()
            if self._work_directory is not None:
                self._work_directory.remove()

    def _s3_settings(self) -> dict[str, object]:
        return {"s3_endpoint_url": self.s3_endpoint, "s3_region": REGION}

    def _address_file(self, name: str) -> Path:
        return self._directory / f"{name}.address"

    @asynccontextmanager
    async def _storage(self) -> AsyncIterator[Storage]:
        async with Storage.open(self.s3_endpoint, REGION, CREDENTIALS) as storage:
            yield storage


async def _gather(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all concurrently; the first failure cancels the rest and is raised without its group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for part in work:
                tasks.create_task(part)
    except ExceptionGroup as group:
        first = group.exceptions[0]
        raise (from_rpc_error(first) if isinstance(first, grpc.aio.AioRpcError) else first) from None


@asynccontextmanager
async def _timeout(seconds: float, child: ChildProcess) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise StackError(f"not ready after {seconds} s: {child.report()}") from None


async def _poll(child: ChildProcess) -> None:
    """Waits one poll interval; raises StackError if `child` has ended."""
    await asyncio.sleep(_POLL_SECONDS)
    if child.exit_code is not None:
        raise StackError(child.report())


async def _finish(children: Iterable[ChildProcess]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        await child.wait()


def _absolute(model: str) -> str:
    """A directory as an absolute path, since services run in another working directory; a hub id unchanged."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() or model.startswith((".", "~")) else model
