import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.ingress.sampling.worker_process import WorkerDied, WorkerOutOfCpuTime, WorkerProcess, WorkerTooSlow
from tests.ingress.waiting import until
from tests.processes import environment, runs

MODULE = "tests.ingress.sampling.echo_worker"
PATIENCE = 30.0


@asynccontextmanager
async def started() -> AsyncIterator[WorkerProcess]:
    worker = WorkerProcess(MODULE, [])
    try:
        await worker.ready()
        yield worker
    finally:
        worker.kill()
        await worker.exited()
        worker.close()


@pytest.fixture
def nothing() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDONLY)
    yield fd
    os.close(fd)


async def test_answers_in_turn_and_gets_a_descriptor_with_each_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("abcdef")
    file = os.open(tmp_path / "file", os.O_RDONLY)
    async with started() as worker:
        assert await worker.ask({"read": 2}, file, PATIENCE) == {"content": "ab"}
        assert await worker.ask({"read": 3}, file, PATIENCE) == {"content": "cde"}
        assert worker.usable
    os.close(file)


async def test_a_message_without_an_answer_does_not_disturb_the_next(nothing: int) -> None:
    async with started() as worker:
        worker.tell({"forget": "it"})
        assert await worker.ask({"read": 1}, nothing, PATIENCE) == {"content": ""}


async def test_says_with_what_it_exited(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerDied, match="exit code 7"):
            await worker.ask({"exit": 7}, nothing, PATIENCE)
        assert not worker.usable
        assert await worker.exited() == 7


async def test_is_told_apart_when_the_kernel_ended_it_for_its_cpu_time(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerOutOfCpuTime):
            await worker.ask({"use up": "CPU time"}, nothing, PATIENCE)


async def test_is_killed_when_it_does_not_answer_in_time(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerTooSlow):
            await worker.ask({"hang": True}, nothing, 0.1)
        assert not runs(worker.pid)
        assert not worker.usable


async def test_so_is_a_stopped_one(nothing: int) -> None:
    async with started() as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerTooSlow):
            await worker.ask({"read": 1}, nothing, 0.1)
        assert not runs(worker.pid)


@pytest.mark.parametrize("nonsense", ["{", "null", "[1]", "not JSON"])
async def test_one_that_answers_nonsense_is_killed(nothing: int, nonsense: str) -> None:
    async with started() as worker:
        with pytest.raises(WorkerDied):
            await worker.ask({"say": nonsense}, nothing, PATIENCE)
        assert not runs(worker.pid)


async def test_tells_of_its_bugs(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerDied, match="line 1, in nowhere"):
            await worker.ask({"say": '{"bug": "line 1, in nowhere"}'}, nothing, PATIENCE)
        assert not runs(worker.pid)


async def test_cannot_be_used_again_when_a_caller_left_before_the_answer(nothing: int) -> None:
    async with started() as worker:
        asking = asyncio.create_task(worker.ask({"hang": True}, nothing, PATIENCE))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not worker.usable


async def test_notices_that_it_died_before_it_was_asked(nothing: int) -> None:
    async with started() as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="exit code -9"):
            await worker.ask({"read": 1}, nothing, PATIENCE)


async def test_a_module_that_does_not_start_dies_before_it_is_ready(capfd: pytest.CaptureFixture[str]) -> None:
    worker = WorkerProcess("tests.ingress.no_such_module", [])
    with pytest.raises(WorkerDied, match="exit code 1"):
        await worker.ready()
    worker.close()
    assert "no_such_module" in capfd.readouterr().err


async def test_inherits_no_variable_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with started() as worker:
        assert set(environment(worker.pid)) == {"PATH", "PYTHONPATH", "LC_ALL", "OPENBLAS_NUM_THREADS"}


async def test_inherits_no_descriptor_but_its_own() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    async with started() as worker:
        targets = [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
        assert len(targets) == 4
        assert not any("pipe" in target for target in targets[:2])
        assert sum("socket" in target for target in targets) == 1
    os.close(ours)
    os.close(theirs)


async def test_leaves_no_descriptor_behind(nothing: int) -> None:
    before = os.listdir("/proc/self/fd")
    async with started() as worker:
        await worker.ask({"read": 1}, nothing, PATIENCE)
    async with started() as worker:
        with pytest.raises(WorkerDied):
            await worker.ask({"exit": 0}, nothing, PATIENCE)
    await until(lambda: len(os.listdir("/proc/self/fd")) == len(before))
