"""`python -m services.decoder`: settings, wiring, and the life of the process."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from services.decoder.servicer import DecoderServicer
from services.decoder.settings import DecoderSettings
from services.decoder.shelf import Shelf, open_location
from videoanalysis import logs
from videoanalysis.server import Server, exit_on_signals
from videoanalysis.v1 import decoder_pb2, decoder_pb2_grpc

_SERVICE_NAME = decoder_pb2.DESCRIPTOR.services_by_name["DecoderService"].full_name
# A new replica first tries to be as good as those it joins, but does not depend on storage to be ready.
_FIRST_BANKS_SECONDS = 5

_Settings = TypeVar("_Settings", bound=BaseSettings)


def main() -> None:
    settings = _read_settings(DecoderSettings)
    logs.configure(settings.log_level, settings.log_format)
    exit_on_signals()
    asyncio.run(_serve(settings))


def _read_settings(kind: type[_Settings]) -> _Settings:
    """Settings from the environment; ends the process with one sentence for each that is wrong."""
    try:
        return kind()
    except ValidationError as error:
        prefix = kind.model_config["env_prefix"]
        for problem in error.errors():
            variable = prefix + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"{variable}: {problem['msg'].removeprefix('Value error, ')}", file=sys.stderr)
        sys.exit(2)


async def _serve(settings: DecoderSettings) -> None:
    with ThreadPoolExecutor(settings.compute_threads, "ranking") as threads:
        async with open_location(settings.banks, settings.s3_endpoint_url, settings.s3_region) as location:
            shelf = Shelf(location, settings.max_bank_bytes)
            server = Server(settings, [_SERVICE_NAME])
            servicer = DecoderServicer(shelf, threads)
            decoder_pb2_grpc.add_DecoderServiceServicer_to_server(servicer, server.grpc)  # type: ignore[no-untyped-call]
            async with server, asyncio.TaskGroup() as tasks:
                following = tasks.create_task(shelf.keep_fresh(settings.banks_refresh_seconds))
                with suppress(TimeoutError):
                    await asyncio.wait_for(shelf.refreshed.wait(), _FIRST_BANKS_SECONDS)
                await server.serve_until_terminated()
                following.cancel()


if __name__ == "__main__":
    main()
