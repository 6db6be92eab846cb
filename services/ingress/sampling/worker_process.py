"""A child process that answers requests, as its parent sees it. Linux only."""

import asyncio
import json
import math
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SOURCE_ROOT = Path(__file__).parents[3]
_START_SECONDS = 60
_EXIT_SECONDS = 1
_MAX_ANSWER_BYTES = 192 << 10  # a chunk of 600 s with a cut every quarter of a second has 140 KiB
_ENVIRONMENT = {  # all of it: no credentials
    "PATH": os.defpath,
    "PYTHONPATH": str(_SOURCE_ROOT),
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",  # one per core otherwise, each with address space of its own
    "MALLOC_ARENA_MAX": "2",  # each takes 64 MiB of address space
}
NEAR_LIMIT = 0.9  # as a share of a worker's memory
_KEPT_BYTES = 32 << 20  # of private memory above the baseline: tables that libraries fill on first use, fragments
# Of address space above the baseline. A video that is allowed less could run out of it unnoticed: decoders report it as
# damage, which is told apart by a new peak, and some of the address space stays taken.
_MOST_PEAK_BYTES = 512 << 20
_MEMORY_LINE = re.compile(r"^(VmPeak|VmSize|RssAnon):\s+(\d+) kB$", re.MULTILINE)

# Waits for bytes of the media file: (start, end) → up to where they are there.
Fetch = Callable[[int, int], Awaitable[int]]


class WorkerDied(Exception):
    """No answer came, and the process has ended."""


class WorkerTooSlow(WorkerDied):
    """It was killed, because the answer was not there in time."""


class WorkerOutOfCpuTime(WorkerDied):
    """It used up the CPU time that it was allowed; another one would only do the same."""


class WorkerOutOfMemory(WorkerDied):
    """It was killed, because its memory did not suffice."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Of a process, in bytes."""

    address_space: int
    peak_address_space: int
    private: int  # resident, and not shared with files

    @classmethod
    def of(cls, pid: int) -> "MemoryUse":
        """Raises OSError or KeyError if the process has ended."""
        kilobytes = dict(_MEMORY_LINE.findall(Path(f"/proc/{pid}/status").read_text()))
        return cls(*(int(kilobytes[name]) << 10 for name in ("VmSize", "VmPeak", "RssAnon")))


class WorkerProcess:
    """`python -m module`, started at once with the descriptor of a socket and `arguments`.

    The kernel kills it with the thread that made this object, which must be that of the event loop.
    """

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        # Whole messages in order, with an end of file when either side ends.
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._connection.setblocking(False)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env=_ENVIRONMENT,
                    start_new_session=True,  # a terminal's Ctrl-C is for the parent alone
                )
            self._pid_fd = self._open_pid_fd()
        except BaseException:
            self._connection.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pid_fd, self._reap)
        # From the first byte of a request to its answer; a worker that was left in between cannot be used again.
        self._in_request = False
        self.sandbox: frozenset[str] = frozenset()
        """Which measures the worker reported to be in force."""
        self._baseline = MemoryUse(0, 0, 0)
        self._memory_limit = 0
        self._peak_before = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def usable(self) -> bool:
        return not self._in_request and self._process.poll() is None

    async def ready(self) -> None:
        """Wait until it answers; raises WorkerDied."""
        answer = await self._answer(_START_SECONDS)
        self.sandbox = frozenset(map(str, answer.get("sandbox", ())))
        try:
            self._baseline = MemoryUse.of(self.pid)
        except (OSError, KeyError) as error:
            raise await self._death() from error

    async def limit_memory(self, byte_count: int) -> None:
        """Allow `byte_count` of address space beyond what it has when idle; raises WorkerDied.

        A limit that the kernel enforces at each allocation: measured resident memory comes too late for a process that
        allocates hundreds of megabytes within a few milliseconds. Decoders touch nearly all that they map.
        """
        self._memory_limit = self._baseline.address_space + byte_count
        try:
            self._peak_before = MemoryUse.of(self.pid).peak_address_space
            resource.prlimit(self.pid, resource.RLIMIT_AS, (self._memory_limit, resource.RLIM_INFINITY))
        except (OSError, KeyError) as error:
            raise await self._death() from error

    async def limit_cpu(self, seconds: int) -> None:
        """End it by SIGXCPU after `seconds` more of CPU time; raises WorkerDied."""
        try:
            limit = _cpu_seconds(self.pid) + seconds + 1  # the kernel counts from the start of the process
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        except (OSError, IndexError) as error:
            raise await self._death() from error

    @property
    def peak_share(self) -> float:
        """The most memory it has used since its limit was set, as a share of what is allowed; 0 if used before too."""
        try:
            peak = MemoryUse.of(self.pid).peak_address_space
        except (OSError, KeyError):
            return 1
        allowed = self._memory_limit - self._baseline.address_space
        return (peak - self._baseline.address_space) / allowed if peak > self._peak_before else 0

    @property
    def is_as_new(self) -> bool:
        """Whether it has returned to its memory at the start, and has not come near its limit since it was set."""
        try:
            use = MemoryUse.of(self.pid)
        except (OSError, KeyError):
            return False
        return (
            self.peak_share < NEAR_LIMIT
            and use.private <= self._baseline.private + _KEPT_BYTES
            and use.peak_address_space <= self._baseline.address_space + _MOST_PEAK_BYTES
        )

    async def request(
        self,
        message: dict[str, Any],
        fd: int | None,
        stall_seconds: float,
        fetch: Fetch | None = None,
        *,
        max_seconds: float = math.inf,
    ) -> dict[str, Any]:
        """The answer to `message`, which `fd` accompanies, if any; raises WorkerDied, and what `fetch` raises.

        The worker is killed after `stall_seconds` without a message, or after `max_seconds` in all. `fetch` waits for
        bytes of the media file that the worker needs; that does not count towards either.
        """
        self._in_request = True
        try:
            socket.send_fds(self._connection, [json.dumps(message).encode()], [] if fd is None else [fd])
            answer, seconds = await self._timed_answer(min(stall_seconds, max_seconds))
            while "fetch" in answer or "progress" in answer:
                if "fetch" in answer:
                    start, end = _range(answer["fetch"])
                    if fetch is None or not 0 <= start < end:
                        await self._kill_and_wait()
                        raise WorkerDied(f"requested bytes {start} to {end}")
                    self._connection.send(json.dumps({"fetched": await self._fetched(fetch, start, end)}).encode())
                max_seconds -= seconds
                answer, seconds = await self._timed_answer(min(stall_seconds, max_seconds))
        except OSError as error:
            raise await self._death() from error
        if "out_of_memory" in answer:
            await self._kill_and_wait()
            raise WorkerOutOfMemory("out of memory")
        self._in_request = False
        return answer

    def kill(self) -> None:
        self._process.kill()

    async def exited(self) -> int:
        """Wait for the end of the process; its exit code, negative where a signal ended it."""
        return await asyncio.shield(self._exit)

    def close(self) -> None:
        """Close this end of the connection, once the process has exited."""
        self._connection.close()

    async def _fetched(self, fetch: Fetch, start: int, end: int) -> int:
        """What `fetch` returns; raises WorkerDied once the process has ended meanwhile."""
        fetching = asyncio.ensure_future(fetch(start, end))
        try:
            await asyncio.wait({fetching, self._exit}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                raise await self._death()
            return fetching.result()
        finally:
            fetching.cancel()

    async def _timed_answer(self, timeout_seconds: float) -> tuple[dict[str, Any], float]:
        start = self._loop.time()
        answer = await self._answer(timeout_seconds)
        return answer, self._loop.time() - start

    async def _answer(self, timeout_seconds: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_seconds):
                message = await self._loop.sock_recv(self._connection, _MAX_ANSWER_BYTES)
        except TimeoutError as error:
            await self._kill_and_wait()
            raise WorkerTooSlow(f"no answer within {timeout_seconds:g} s") from error
        except OSError as error:
            raise await self._death() from error
        if not message:
            raise await self._death()
        answer = _parsed(message)
        if "bug" in answer:
            await self._kill_and_wait()
            raise WorkerDied(answer["bug"])
        return answer

    async def _death(self) -> WorkerDied:
        """Why it ended, now that it has closed its end of the connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_SECONDS):
                await self.exited()
        code = await self._kill_and_wait()
        return WorkerOutOfCpuTime("out of CPU time") if code == -signal.SIGXCPU else WorkerDied(f"exit code {code}")

    async def _kill_and_wait(self) -> int:
        """Its exit code; from now on it writes no more into any memory that it was given."""
        self.kill()
        return await self.exited()

    def _open_pid_fd(self) -> int:
        try:
            return os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    def _reap(self) -> None:
        self._loop.remove_reader(self._pid_fd)
        os.close(self._pid_fd)
        self._exit.set_result(self._process.wait())


def _cpu_seconds(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) // os.sysconf("SC_CLK_TCK")


def _parsed(message: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(message)
    except (ValueError, RecursionError):
        answer = None
    return answer if isinstance(answer, dict) else {"bug": f"answered {message[:100]!r}"}


def _range(value: Any) -> tuple[int, int]:
    match value:
        case [int(start), int(end)]:
            return start, end
    return -1, -1
