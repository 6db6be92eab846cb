"""`python -m services.encoder`: loads the model, warms it up and serves until SIGTERM."""

import asyncio
import os
import sys
import time
from dataclasses import asdict

import structlog

from services.encoder import metrics as encoder_metrics
from services.encoder.admission import Admission
from services.encoder.engine import Engine, StartupError
from services.encoder.servicer import MAX_REQUEST_BYTES, EncoderServicer
from services.encoder.settings import EncoderSettings
from videoanalysis import __version__, logs, metrics, tracing
from videoanalysis.allocator import keep_freed_memory
from videoanalysis.cores import cores
from videoanalysis.server import Server, exit_on_signals
from videoanalysis.settings import exit_on_invalid_file, read_settings
from videoanalysis.v1 import encoder_pb2

_SERVICE = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name
# Read when the libraries are imported. Their output is not structured, and the checks here cover their warnings.
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
# OMP_WAIT_POLICY: threads of one computation sleep while they wait for each other. If they spin, they take cores from
# the threads they wait for: with other work on both of two cores, two threads took 14 times the CPU time.
# TORCHINDUCTOR_COMPILE_THREADS: one process for each core of this container; the default is one for each of the node.
_OF_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "TORCHINDUCTOR_COMPILE_THREADS": str(cores())}

# Longer than the pauses between the calls that build a text bank, and than those between requests with labels.
_TEXT_TOWER_IDLE_SECONDS = 60.0

_log = structlog.get_logger()


def main() -> None:
    keep_freed_memory()
    exit_on_signals()
    settings = read_settings(EncoderSettings)
    logs.configure(settings.log_level, settings.log_format)
    _log.info("starting", service="encoder", version=__version__, settings=settings.effective())
    tracing.configure("encoder")
    encoder_metrics.start_at_zero(_SERVICE)
    try:
        with exit_on_invalid_file(), metrics.listen(settings, [_SERVICE]):
            asyncio.run(serve(settings))
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


async def serve(settings: EncoderSettings) -> None:
    started = time.perf_counter()
    # On a thread, so that SIGTERM ends a long download or load at once.
    engine = await asyncio.to_thread(load_engine, settings)
    model = engine.model
    buffer_bytes = settings.max_frames * model.image_size**2 * 3
    chunks = Admission(
        [engine.allocate(buffer_bytes) for _ in range(settings.max_in_flight)],
        max_parked=settings.max_parked,
        max_parked_per_ingress=settings.max_parked_per_ingress,
        piece_seconds=settings.piece_seconds,
        upload_seconds=settings.upload_seconds,
    )
    # Texts have a permit of their own: they wait for no chunk's upload, and take no permit from the chunks.
    texts = Admission([engine.allocate(0)], max_parked=settings.max_parked_texts)
    encoder_metrics.register(chunks, settings.max_in_flight)
    async with chunks, texts:
        await chunks.warm_up(engine.warm_up)
        encoder_metrics.warm(model, seconds := time.perf_counter() - started)
        _log.info("warm", model=asdict(model), seconds=round(seconds, 1))
        server = Server(settings, [_SERVICE], max_request_bytes=MAX_REQUEST_BYTES)
        servicer = EncoderServicer(engine, chunks, texts, settings.max_frames)
        servicer.add_to(server.grpc)
        async with server:
            await server.serve_until_terminated()


def load_engine(settings: EncoderSettings) -> Engine:
    """The engine named in the settings, the only one imported; raises StartupError."""
    if settings.engine == "synthetic":
        from services.encoder.synthetic import SyntheticEngine

        return SyntheticEngine(
            image_size=settings.synthetic_image_size,
            embedding_dim=settings.synthetic_embedding_dim,
            service_ms=settings.synthetic_service_ms,
        )
    for name, value in {**_QUIET, **_OF_THREADS}.items():
        os.environ.setdefault(name, value)
    from services.encoder import checkpoint

    # Before torch is imported, which takes seconds: a wrong name fails at once.
    found = checkpoint.resolve(settings.model, settings.revision)
    found.start_hashing()
    from services.encoder import siglip

    logs.take_over_loggers()  # of the libraries imported just now

    return siglip.load(
        found,
        device=settings.device,
        precision=settings.precision,
        torch_threads=settings.torch_threads,
        compile_mode=settings.compile,
        max_batch_chunks=settings.max_batch_chunks,
        batch_wait_seconds=settings.batch_wait_ms / 1000,
        text_tower_idle_seconds=None if settings.keep_text_tower else _TEXT_TOWER_IDLE_SECONDS,
    )


if __name__ == "__main__":
    main()
