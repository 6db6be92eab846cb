"""The trial against a stack on this machine, whose file system and memory it can watch."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from videoanalysis.client import AsyncClient
from videoanalysis.selftest import canaries, clips
from videoanalysis.selftest.trial import Trial
from videoanalysis.stack.stack import Stack


@asynccontextmanager
async def trial(stack: Stack) -> AsyncIterator[Trial]:
    """Against `stack`, which is running."""
    async with AsyncExitStack() as entered:
        directory = Path(entered.enter_context(tempfile.TemporaryDirectory(prefix="selftest-")))
        secret = directory / "secret.mp4"
        secret.write_bytes(clips.clip("mp4"))

        async def upload(name: str, content: bytes) -> str:
            path = directory / name
            path.write_bytes(content)
            try:
                return await stack.upload(path)
            finally:
                path.unlink()

        yield Trial(
            service=await entered.enter_async_context(AsyncClient(stack.address, retry_timeout_seconds=0)),
            upload=upload,
            address=await entered.enter_async_context(canaries.listening()),
            file=entered.enter_context(canaries.watched(secret)),
            pid=stack.services["ingress"][0].pid,
        )
