"""`python -m services.ingress`: settings, wiring, and the life of the process."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from services.ingress import metrics as ingress_metrics
from services.ingress.admission import (
    Admission,
    Authentication,
    ByteBudget,
    Demand,
    FileKeys,
    IssuerKeys,
    RemoteKeys,
    WebTokens,
    read_policy,
    read_tokens,
)
from services.ingress.answer import Outputs
from services.ingress.dispatch import Decoders, Encoders, Location, Replicas, ReplicaTls, discover
from services.ingress.pipeline import Pipeline
from services.ingress.resume import ResumeTokens
from services.ingress.sampling import MEASURES, REQUIRED_MEASURES, SamplingPool, WorkerLimits
from services.ingress.scaling_endpoint import scaling_endpoint
from services.ingress.servicer import VideoAnalysisServicer
from services.ingress.settings import IngressSettings
from services.ingress.sources import Allowed, ScratchSpace, Sources
from services.ingress.video_run import Resources
from videoanalysis import __version__, logs, metrics, tracing
from videoanalysis.allocator import keep_freed_memory
from videoanalysis.reloaded_files import ReloadedFiles
from videoanalysis.server import Server, exit_on_signals
from videoanalysis.settings import exit_on_invalid_file, read_settings
from videoanalysis.tls import channel_credentials
from videoanalysis.v1 import analysis_pb2, analysis_pb2_grpc

T = TypeVar("T")

_SERVICE_NAME = analysis_pb2.DESCRIPTOR.services_by_name["VideoAnalysisService"].full_name
# The longest request that is valid has about 520 KB: the float32 embeddings of a chunk of 64 frames at 2048 dimensions.
MAX_REQUEST_BYTES = 640 << 10
_ANSWER_SECONDS = 60  # beyond the deadline of a request, to receive its answer


_log = structlog.get_logger()


def main() -> None:
    keep_freed_memory()
    exit_on_signals()
    settings = read_settings(IngressSettings)
    logs.configure(settings.log_level, settings.log_format)
    _log.info("starting", service="ingress", version=__version__, settings=settings.effective())
    tracing.configure("ingress")
    ingress_metrics.start_at_zero(_SERVICE_NAME)
    demand = Demand()
    with exit_on_invalid_file(), ExitStack() as endpoints:
        # Autoscalers and Prometheus read them until the last video in progress ends, so they outlive the server.
        if settings.scaling_port is not None:
            tls = settings.server_tls.http_context() if settings.server_tls and settings.scaling_tls else None
            endpoints.enter_context(scaling_endpoint(demand, settings.host, settings.scaling_port, tls))
        endpoints.enter_context(metrics.listen(settings, [_SERVICE_NAME]))
        asyncio.run(serve(settings, demand))


async def serve(settings: IngressSettings, demand: Demand) -> None:
    admission = Admission(
        settings.max_videos,
        settings.max_waiting,
        max_running_per_caller=settings.slots_per_caller(),
        max_waiting_per_caller=settings.max_waiting_per_caller,
        caller_timeout_seconds=settings.write_seconds,
    )
    ingress_metrics.export_counts(demand, admission, settings.max_videos)
    encoders = replicas(settings, "encoder", settings.encoders, settings.encoder_tls_name)
    decoders = replicas(settings, "decoder", settings.decoders, settings.decoder_tls_name)
    # Child processes start before the server, whose threads they must not inherit.
    async with (
        SamplingPool(settings.max_videos, worker_limits(settings)) as sampling,
        settings.open_storage() as s3,
        encoders,
        decoders,
        authentication(settings) as callers,
    ):
        check_sandbox(sampling.sandbox, required=settings.require_sandbox)
        resources = Resources(
            sampling=sampling,
            frame_budget=ByteBudget(settings.frame_budget_bytes),
            encoders=Encoders(encoders, settings.image_size),
            decoders=Decoders(decoders, demand),
            image_size=settings.image_size,
            chunks_ahead=settings.chunks_ahead,
            max_encoded_frames=settings.max_encoded_frames,
            max_video_seconds=settings.max_video_seconds,
        )
        sources = Sources(
            s3,
            Allowed(
                settings.allowed_buckets,
                settings.allowed_file_roots,
                settings.allowed_https_prefixes,
                settings.allowed_https_networks,
            ),
            ScratchSpace(ByteBudget(settings.scratch_bytes), settings.scratch_dir, settings.max_object_bytes),
        )
        outputs = Outputs(s3, settings.allowed_output_prefixes)
        server = Server(
            settings,
            [_SERVICE_NAME],
            demand.drain,
            guard=callers.guard,
            max_request_bytes=MAX_REQUEST_BYTES,
            connection_seconds=settings.connection_seconds,
            call_seconds=settings.max_request_seconds + _ANSWER_SECONDS,
        )
        servicer = VideoAnalysisServicer(
            Pipeline(resources, admission, demand),
            sources,
            outputs,
            tokens=ResumeTokens(settings.resume_key_bytes()),
            max_request_seconds=settings.max_request_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
        )
        analysis_pb2_grpc.add_VideoAnalysisServiceServicer_to_server(servicer, server.grpc)  # type: ignore[no-untyped-call]
        async with server:
            await server.serve_until_terminated()


@asynccontextmanager
async def authentication(settings: IngressSettings) -> AsyncIterator[Authentication]:
    """Raises InvalidFile."""
    async with AsyncExitStack() as stack:
        web_tokens = None
        if settings.jwt_keys is not None and settings.jwt_issuer is not None and settings.jwt_audience is not None:
            keys: IssuerKeys = (
                await stack.enter_async_context(RemoteKeys(settings.jwt_keys))
                if settings.jwt_keys.startswith("https://")
                else FileKeys(settings.variable("jwt_keys"), Path(settings.jwt_keys))
            )
            web_tokens = WebTokens(
                keys,
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                algorithms=settings.jwt_algorithms,
                caller_claim=settings.jwt_caller_claim,
                clock_skew_seconds=settings.jwt_clock_skew_seconds,
            )
        yield Authentication(
            tokens=_reloaded(settings, "tokens_file", read_tokens),
            web_tokens=web_tokens,
            policy=_reloaded(settings, "policy_file", read_policy),
            caller_header=settings.caller_header,
        )


def _reloaded(settings: IngressSettings, name: str, read: Callable[[Path], T]) -> ReloadedFiles[T] | None:
    path: Path | None = getattr(settings, name)
    return None if path is None else ReloadedFiles(settings.variable(name), [path], lambda: read(path))


def replicas(settings: IngressSettings, name: str, location: Location, peer_name: str) -> Replicas:
    """Raises InvalidFile."""
    tls = None
    if (files := settings.upstream_tls()) is not None:
        setting = settings.variable("upstream_tls_ca")
        tls = ReplicaTls(ReloadedFiles(setting, files.paths, lambda: channel_credentials(files)), peer_name)
    return Replicas(
        name,
        discover(location, settings.discovery_seconds),
        attempt_seconds=settings.attempt_seconds,
        wait_seconds=settings.replica_wait_seconds,
        cold_start_seconds=settings.cold_start_seconds,
        tls=tls,
    )


def check_sandbox(in_force: frozenset[str], required: bool) -> None:
    """Exports and logs which measures of the sandbox are in force; exits if it is required and incomplete."""
    ingress_metrics.export_sandbox({measure: measure in in_force for measure in MEASURES})
    _log.info("sampling processes are sandboxed", in_force=sorted(in_force))
    if required and (missing := REQUIRED_MEASURES - in_force):
        sys.exit(f"require_sandbox: the kernel or container does not allow {', '.join(sorted(missing))}")


def worker_limits(settings: IngressSettings) -> WorkerLimits:
    return WorkerLimits(
        memory_bytes=settings.sampling_memory_bytes,
        cpu_seconds=settings.sampler_cpu_seconds,
        stall_seconds=settings.sampler_stall_seconds,
        max_pixels=settings.max_pixels,
        max_video_seconds=settings.max_video_seconds,
        max_packets=settings.max_packets,
    )


if __name__ == "__main__":
    main()
