from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from services.ingress.sampling import SamplingPool
from tests.ingress.sampling.samplers import LIMITS
from tests.rendering import render, steady


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sampling_pool() -> AsyncIterator[SamplingPool]:
    """Two workers for all tests that leave them alive; in the session's event loop."""
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", "not for workers")
            pool = await stack.enter_async_context(SamplingPool(2, LIMITS))
        yield pool


@pytest.fixture(scope="session")
def five_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of five seconds at 25 frames per second, every frame different."""
    return render(tmp_path_factory.mktemp("video") / "video.mp4", steady(25, 5), codec="mpeg4")
