import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from moto.server import ThreadedMotoServer
from xdist.scheduler import LoadFileScheduling

from videoanalysis.storage import Storage

# Before torch is imported: several test processes share the cores, and threads that wait for each other spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore Ctrl-C, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing where other tests run at the same time.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Whole stacks of services need the cores: one after another, in one of the processes that share the tests.
STACKS = ("tests/integration/", "tests/stack/", "tests/loadtest/test_main.py", "tests/test_cli.py")


class BySharedFixtures(LoadFileScheduling):
    """All tests of a file run in one process, and so do those of several files that share what is slow to start."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(STACKS):
            return "stacks"
        # torch takes seconds to import.
        return "torch" if nodeid.startswith("tests/encoder/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> BySharedFixtures:
    return BySharedFixtures(config, log)


def pytest_collection_finish() -> None:
    """Modules and test items live to the end: the garbage collector need not look at a million objects each time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    # Libraries that count what is left of them at the end would report a leak.
    gc.unfreeze()


@pytest.fixture(autouse=True)
def ordinary_priority() -> Iterator[None]:
    """A test that leaves this process a real-time priority fails: every other process would wait for it."""
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 protocol server on loopback."""
    # Otherwise a line for every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment, for this process and those it starts."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
async def storage(s3_endpoint: str, s3_credentials: None) -> AsyncIterator[Storage]:
    async with Storage.open(s3_endpoint) as storage:
        yield storage


@pytest.fixture
async def bucket(storage: Storage) -> str:
    """The name of a bucket of this test's own."""
    name = f"test-{uuid4().hex}"
    await storage.create_bucket(name)
    return name
