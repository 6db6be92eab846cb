import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.ingress.sampling.worker_process import (
    WorkerDied,
    WorkerOutOfCpuTime,
    WorkerOutOfMemory,
    WorkerProcess,
    WorkerTooSlow,
)
from tests.ingress.waiting import until
from tests.processes import environment, runs

MODULE = "tests.ingress.sampling.echo_worker"
PATIENCE = 30.0
VARIABLES = {"PATH", "PYTHONPATH", "LC_ALL", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"}


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


async def test_a_worker_that_reports_progress_may_take_longer_than_one_that_does_not(nothing: int) -> None:
    async with started() as worker:
        assert await worker.request({"report": 4, "every": 0.4}, nothing, 1.5) == {}


async def test_progress_without_an_end_has_a_limit_in_all(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerTooSlow):
            await worker.request({"report": 1000, "every": 0.05}, nothing, PATIENCE, max_seconds=0.5)


async def test_answers_in_turn_and_gets_a_descriptor_with_each_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("abcdef")
    file = os.open(tmp_path / "file", os.O_RDONLY)
    async with started() as worker:
        assert await worker.request({"read": 2}, file, PATIENCE) == {"content": "ab"}
        assert await worker.request({"read": 3}, file, PATIENCE) == {"content": "cde"}
        assert worker.usable
    os.close(file)


async def test_bytes_that_the_worker_requests_are_fetched_before_its_answer(nothing: int) -> None:
    requested = []

    async def fetch(start: int, end: int) -> int:
        requested.append((start, end))
        return end

    async with started() as worker:
        answer = await worker.request({"fetch": [[0, 10], [5, 20]]}, nothing, PATIENCE, fetch)
        assert answer == {"fetched": [10, 20]}
        assert requested == [(0, 10), (5, 20)]
        assert worker.usable


async def test_waiting_for_bytes_does_not_count_towards_the_timeout(nothing: int) -> None:
    async def fetch(start: int, end: int) -> int:
        await asyncio.sleep(1.5)
        return end

    async with started() as worker:
        assert await worker.request({"fetch": [[0, 10]]}, nothing, 1, fetch) == {"fetched": [10]}


@pytest.mark.parametrize("range_", [[10, 5], [-1, 5], ["a", "b"], 7, [1]])
async def test_a_worker_that_requests_impossible_bytes_is_killed(nothing: int, range_: object) -> None:
    async def fetch(start: int, end: int) -> int:
        return end

    async with started() as worker:
        with pytest.raises(WorkerDied, match="requested bytes"):
            await worker.request({"fetch": [range_]}, nothing, PATIENCE, fetch)
        assert not runs(worker.pid)


async def test_a_worker_out_of_memory_is_killed(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerOutOfMemory):
            await worker.request({"say": '{"out_of_memory": true}'}, nothing, PATIENCE)
        assert not runs(worker.pid)


async def test_is_as_new_until_it_keeps_memory(nothing: int) -> None:
    async with started() as worker:
        await worker.limit_memory(1 << 30)
        await worker.request({"keep": 16 << 20}, nothing, PATIENCE)
        assert worker.is_as_new
        await worker.request({"keep": 64 << 20}, nothing, PATIENCE)
        assert not worker.is_as_new


async def test_is_not_as_new_once_it_came_near_its_limit(nothing: int) -> None:
    async with started() as worker:
        await worker.limit_memory(1 << 30)
        await worker.request({"use": 128 << 20}, nothing, PATIENCE)
        assert worker.is_as_new
        await worker.limit_memory(130 << 20)
        assert worker.is_as_new
        await worker.request({"use": 129 << 20}, nothing, PATIENCE)
        assert not worker.is_as_new


async def test_is_not_as_new_once_it_used_so_much_that_a_later_lack_of_memory_would_not_show(nothing: int) -> None:
    async with started() as worker:
        await worker.limit_memory(1 << 30)
        await worker.request({"use": 500 << 20}, nothing, PATIENCE)
        assert worker.is_as_new
        await worker.request({"use": 520 << 20}, nothing, PATIENCE)
        assert not worker.is_as_new


async def test_reports_its_exit_code(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerDied, match="exit code 7"):
            await worker.request({"exit": 7}, nothing, PATIENCE)
        assert not worker.usable
        assert await worker.exited() == 7


async def test_the_limit_of_cpu_time_is_a_reason_of_its_own(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerOutOfCpuTime):
            await worker.request({"use up": "CPU time"}, nothing, PATIENCE)


async def test_is_killed_when_it_does_not_answer_in_time(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerTooSlow):
            await worker.request({"hang": True}, nothing, 0.1)
        assert not runs(worker.pid)
        assert not worker.usable


async def test_so_is_a_stopped_one(nothing: int) -> None:
    async with started() as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerTooSlow):
            await worker.request({"read": 1}, nothing, 0.1)
        assert not runs(worker.pid)


@pytest.mark.parametrize("nonsense", ["{", "null", "[1]", "not JSON", pytest.param("[" * 30_000, id="nested")])
async def test_one_that_answers_nonsense_is_killed(nothing: int, nonsense: str) -> None:
    async with started() as worker:
        with pytest.raises(WorkerDied):
            await worker.request({"say": nonsense}, nothing, PATIENCE)
        assert not runs(worker.pid)


async def test_tells_of_its_bugs(nothing: int) -> None:
    async with started() as worker:
        with pytest.raises(WorkerDied, match="line 1, in nowhere"):
            await worker.request({"say": '{"bug": "line 1, in nowhere"}'}, nothing, PATIENCE)
        assert not runs(worker.pid)


async def test_cannot_be_used_again_when_a_caller_left_before_the_answer(nothing: int) -> None:
    async with started() as worker:
        asking = asyncio.create_task(worker.request({"hang": True}, nothing, PATIENCE))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not worker.usable


async def test_a_death_before_the_request_is_noticed(nothing: int) -> None:
    async with started() as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="exit code -9"):
            await worker.request({"read": 1}, nothing, PATIENCE)


async def test_a_module_that_does_not_start_dies_before_it_is_ready(capfd: pytest.CaptureFixture[str]) -> None:
    worker = WorkerProcess("tests.ingress.no_such_module", [])
    with pytest.raises(WorkerDied, match="exit code 1"):
        await worker.ready()
    worker.close()
    assert "no_such_module" in capfd.readouterr().err


async def test_inherits_no_variable_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with started() as worker:
        assert set(environment(worker.pid)) == {
            "PATH",
            "PYTHONPATH",
            "LC_ALL",
            "OPENBLAS_NUM_THREADS",
            "MALLOC_ARENA_MAX",
        }


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
        await worker.request({"read": 1}, nothing, PATIENCE)
    async with started() as worker:
        with pytest.raises(WorkerDied):
            await worker.request({"exit": 0}, nothing, PATIENCE)
    await until(lambda: len(os.listdir("/proc/self/fd")) == len(before))
