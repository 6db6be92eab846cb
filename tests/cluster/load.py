"""Analyses the sample clip repeatedly and concurrently until SIGTERM; prints a line of JSON for each call.

The source is run by `python -c` in a pod of the ingress's image, so it imports only the library. Calls in progress are
finished. A call that the client repeats and that then succeeds counts as successful.
"""

import asyncio
import json
import signal
import sys
import time
from functools import partial
from typing import Any

from videoanalysis.client import AsyncClient
from videoanalysis.errors import ServiceError


async def main(address: str, concurrency: int, calls: int, timeout_seconds: float, options: dict[str, Any]) -> None:
    """`calls` 0 means until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    left = calls or sys.maxsize

    async def call_again_and_again(client: AsyncClient) -> None:
        nonlocal left
        while left > 0 and not ended.is_set():
            left -= 1
            retries: list[ServiceError] = []
            began = time.time()
            line: dict[str, Any] = {"began": began}
            try:
                analysis = await client.analyze(
                    "sample://clip",
                    timeout_seconds=timeout_seconds,
                    on_retry=partial(_remember, retries),
                    **options,
                )
                line |= {"model": analysis.model.digest, "error": ""}
            except ServiceError as error:
                line |= {"model": "", "error": f"{type(error).__name__}: {error}"}
            print(json.dumps(line | {"ended": time.time(), "retries": [str(error) for error in retries]}), flush=True)
            if line["error"]:
                # Avoids a tight loop of calls while the service is unavailable.
                await asyncio.sleep(0.5)

    async with AsyncClient(address) as client, asyncio.TaskGroup() as tasks:
        print(json.dumps({"ready": True}), flush=True)
        for _ in range(concurrency):
            tasks.create_task(call_again_and_again(client))


def _remember(retries: list[ServiceError], error: ServiceError, *_: float) -> None:
    retries.append(error)


if __name__ == "__main__":
    _address, _concurrency, _calls, _timeout, _options = sys.argv[1:]
    asyncio.run(main(_address, int(_concurrency), int(_calls), float(_timeout), json.loads(_options)))
