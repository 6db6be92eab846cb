"""`python -m services.decoder`: reads the settings, wires the parts and serves until SIGTERM."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from services.decoder import metrics as decoder_metrics
from services.decoder.servicer import DecoderServicer
from services.decoder.settings import DecoderSettings
from services.decoder.text_bank_location import open_location
from services.decoder.text_bank_store import TextBankStore
from videoanalysis import __version__, logs, metrics, tracing
from videoanalysis.allocator import keep_freed_memory
from videoanalysis.cores import cores, limit_blas_threads
from videoanalysis.server import Server, exit_on_signals
from videoanalysis.settings import exit_on_invalid_file, read_settings
from videoanalysis.v1 import decoder_pb2, decoder_pb2_grpc

_log = structlog.get_logger()

_SERVICE_NAME = decoder_pb2.DESCRIPTOR.services_by_name["DecoderService"].full_name
# A new replica loads its banks before it becomes ready, but becomes ready without them if storage is unavailable.
_FIRST_LOAD_SECONDS = 5


def main() -> None:
    keep_freed_memory()
    settings = read_settings(DecoderSettings)
    logs.configure(settings.log_level, settings.log_format)
    _log.info("starting", service="decoder", version=__version__, settings=settings.effective())
    tracing.configure("decoder")
    exit_on_signals()
    limit_blas_threads(max(1, cores() // settings.compute_threads))
    with exit_on_invalid_file(), metrics.listen(settings, [_SERVICE_NAME]):
        asyncio.run(_serve(settings))


async def _serve(settings: DecoderSettings) -> None:
    with ThreadPoolExecutor(settings.compute_threads, "ranking") as threads:
        async with open_location(settings.banks, settings.open_storage) as location:
            text_banks = TextBankStore(location, settings.max_bank_bytes, settings.expected_banks)
            decoder_metrics.register(text_banks, settings.compute_threads)
            server = Server(settings, [_SERVICE_NAME])
            servicer = DecoderServicer(text_banks, threads)
            decoder_pb2_grpc.add_DecoderServiceServicer_to_server(servicer, server.grpc)  # type: ignore[no-untyped-call]
            async with server, asyncio.TaskGroup() as tasks:
                refreshing = tasks.create_task(text_banks.refresh_forever(settings.banks_refresh_seconds))
                with suppress(TimeoutError):
                    await asyncio.wait_for(text_banks.refreshed.wait(), _FIRST_LOAD_SECONDS)
                await server.serve_until_terminated()
                refreshing.cancel()


if __name__ == "__main__":
    main()
