"""The three services in this process, each behind a real gRPC server on loopback."""

import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.decoder.servicer import DecoderServicer
from services.decoder.text_bank_location import Directory
from services.decoder.text_bank_store import TextBankStore
from services.encoder.admission import Admission as EncoderAdmission
from services.encoder.engine import Encoded
from services.encoder.engine import Engine as EncoderEngine
from services.encoder.servicer import EncoderServicer
from services.encoder.synthetic import SyntheticEngine
from services.ingress.__main__ import authentication, worker_limits
from services.ingress.admission import Admission, ByteBudget, Demand
from services.ingress.answer import Outputs
from services.ingress.dispatch import Decoders, Discovery, Encoders, Replicas, discover
from services.ingress.pipeline import Pipeline
from services.ingress.resume import ResumeTokens
from services.ingress.sampling import SamplingPool
from services.ingress.servicer import VideoAnalysisServicer
from services.ingress.settings import IngressSettings
from services.ingress.sources import Allowed, ScratchSpace, Sources
from services.ingress.video_run import Resources
from videoanalysis.calls import CallInterceptor
from videoanalysis.channels import connect
from videoanalysis.server import READINESS
from videoanalysis.storage import Storage
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub, add_VideoAnalysisServiceServicer_to_server
from videoanalysis.v1.decoder_pb2_grpc import add_DecoderServiceServicer_to_server

IMAGE_SIZE, EMBEDDING_DIM = 32, 64
TEXTS = Path(__file__).parents[1] / "textbanks" / "default"


class Engine(SyntheticEngine):
    """The stand-in, which a test can hold up with `release`; counts its chunks."""

    def __init__(self, *, service_ms: float = 0.0, embedding_dim: int = EMBEDDING_DIM) -> None:
        super().__init__(image_size=IMAGE_SIZE, embedding_dim=embedding_dim, service_ms=service_ms)
        self.release = threading.Event()
        self.release.set()
        self.chunks = 0
        self.started = threading.Event()
        self.failure: Exception | None = None

    def encode(self, frames: np.ndarray) -> Encoded:
        self.started.set()
        assert self.release.wait(30)
        if self.failure is not None:
            raise self.failure
        self.chunks += 1
        return super().encode(frames)


@dataclass
class Replica:
    """One encoder or decoder; `server` can be stopped, and another one started at the same address."""

    address: str
    server: grpc.aio.Server
    health_servicer: health.aio.HealthServicer = field(default_factory=health.aio.HealthServicer)

    async def set_ready(self, ready: bool) -> None:
        """As `videoanalysis.server` does: false before it drains."""
        status = health_pb2.HealthCheckResponse
        await self.health_servicer.set(READINESS, status.SERVING if ready else status.NOT_SERVING)


@dataclass
class System:
    """Everything a test looks at."""

    stub: VideoAnalysisServiceStub
    address: str
    demand: Demand
    admission: Admission
    frame_budget: ByteBudget
    scratch: ByteBudget
    sampling: SamplingPool
    encoders: list[Replica] = field(default_factory=list)
    decoders: list[Replica] = field(default_factory=list)
    text_banks: TextBankStore | None = None

    def is_at_rest(self) -> bool:
        """Whether no request holds anything."""
        admission = self.admission
        requests = admission.running + admission.waiting + admission.arriving
        return not (requests or self.frame_budget.in_use or self.scratch.in_use)


@asynccontextmanager
async def system(
    directory: Path,
    engines: Sequence[EncoderEngine] | None = None,
    *,
    storage: Storage | None = None,
    with_bank: bool = True,
    decoder_count: int = 1,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    texts: Path = TEXTS,
    discovery: Discovery | None = None,
    **settings: object,
) -> AsyncIterator[System]:
    """One encoder for each of `engines`; banks and downloads lie under `directory`; files under it may be named.

    The ingress uses those encoders, or the addresses that `discovery` returns.
    """
    engines = [Engine()] if engines is None else engines
    banks, scratch_dir = directory / "banks", directory / "scratch"
    banks.mkdir(exist_ok=True)
    scratch_dir.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        encoder_replicas = [
            await stack.enter_async_context(encoder(engine, interceptors=interceptors)) for engine in engines
        ]
        if with_bank:
            async with connect(encoder_replicas[0].address) as channel:
                bank = await bank_builder.build(texts, name="default", encoder=channel)
            (banks / "default.safetensors").write_bytes(bank.to_bytes())
        text_banks = TextBankStore(Directory(banks), 1 << 28)
        await text_banks.refresh()
        decoder_replicas = [
            await stack.enter_async_context(decoder(text_banks, interceptors)) for _ in range(decoder_count)
        ]
        chosen = IngressSettings(
            **{
                "encoders": [replica.address for replica in encoder_replicas] or ["127.0.0.1:1"],
                "decoders": [replica.address for replica in decoder_replicas] or ["127.0.0.1:1"],
                "image_size": engines[0].model.image_size if engines else IMAGE_SIZE,
                "max_videos": 2,
                "allowed_buckets": ["*"],
                "allowed_file_roots": [directory],
                "scratch_dir": scratch_dir,
                "replica_wait_seconds": 2,
                **settings,
            }
        )
        started = await stack.enter_async_context(ingress(chosen, storage, discovery))
        started.encoders, started.decoders, started.text_banks = encoder_replicas, decoder_replicas, text_banks
        yield started


@asynccontextmanager
async def encoder(
    engine: EncoderEngine, address: str = "127.0.0.1:0", interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> AsyncIterator[Replica]:
    size = engine.model.image_size
    buffers = [engine.allocate(64 * size * size * 3) for _ in range(2)]
    chunks = EncoderAdmission(buffers, max_parked=32)
    texts = EncoderAdmission([engine.allocate(0)], max_parked=8)
    async with chunks, texts:
        server = grpc.aio.server(interceptors=[CallInterceptor(), *interceptors])
        EncoderServicer(engine, chunks, texts, 64).add_to(server)
        async with replica(server, address) as started:
            yield started
        if isinstance(engine, Engine):
            engine.release.set()


@asynccontextmanager
async def decoder(
    text_banks: TextBankStore, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
) -> AsyncIterator[Replica]:
    with ThreadPoolExecutor(1) as threads:
        server = grpc.aio.server(interceptors=[CallInterceptor(), *interceptors])
        add_DecoderServiceServicer_to_server(DecoderServicer(text_banks, threads), server)
        async with replica(server) as started:
            yield started


@asynccontextmanager
async def ingress(
    settings: IngressSettings, storage: Storage | None, encoder_discovery: Discovery | None = None
) -> AsyncIterator[System]:
    limits = {
        "attempt_seconds": settings.attempt_seconds,
        "wait_seconds": settings.replica_wait_seconds,
        "cold_start_seconds": settings.cold_start_seconds,
    }
    found = encoder_discovery or discover(settings.encoders, settings.discovery_seconds)
    encoders = Replicas("encoder", found, **limits)
    decoders = Replicas("decoder", discover(settings.decoders, settings.discovery_seconds), **limits)
    async with (
        SamplingPool(settings.max_videos, worker_limits(settings)) as sampling,
        encoders,
        decoders,
        authentication(settings) as callers,
    ):
        admission = Admission(
            settings.max_videos,
            settings.max_waiting,
            max_running_per_caller=settings.slots_per_caller(),
            caller_timeout_seconds=settings.write_seconds,
        )
        frame_budget, scratch = ByteBudget(settings.frame_budget_bytes), ByteBudget(settings.scratch_bytes)
        demand = Demand()
        resources = Resources(
            sampling=sampling,
            frame_budget=frame_budget,
            encoders=Encoders(encoders, settings.image_size),
            decoders=Decoders(decoders, demand),
            image_size=settings.image_size,
            chunks_ahead=settings.chunks_ahead,
            max_encoded_frames=settings.max_encoded_frames,
            max_video_seconds=settings.max_video_seconds,
        )
        allowed = Allowed(settings.allowed_buckets, settings.allowed_file_roots, settings.allowed_https_prefixes)
        sources = Sources(storage, allowed, ScratchSpace(scratch, settings.scratch_dir, settings.max_object_bytes))
        outputs = Outputs(storage, settings.allowed_output_prefixes)
        server = grpc.aio.server(
            interceptors=[CallInterceptor(guard=callers.guard, write_seconds=settings.write_seconds)]
        )
        servicer = VideoAnalysisServicer(
            Pipeline(resources, admission, demand),
            sources,
            outputs,
            tokens=ResumeTokens(settings.resume_key_bytes()),
            max_request_seconds=settings.max_request_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
        )
        add_VideoAnalysisServiceServicer_to_server(servicer, server)
        async with listening(server) as address, connect(address) as channel:
            stub = VideoAnalysisServiceStub(channel)
            yield System(stub, address, demand, admission, frame_budget, scratch, sampling)


@asynccontextmanager
async def replica(server: grpc.aio.Server, address: str = "127.0.0.1:0") -> AsyncIterator[Replica]:
    """`server` with health, ready at once."""
    started = Replica("", server)
    health_pb2_grpc.add_HealthServicer_to_server(started.health_servicer, server)
    await started.set_ready(True)
    async with listening(server, address) as started.address:
        yield started


@asynccontextmanager
async def listening(server: grpc.aio.Server, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
