"""A child process that answers requests, as its parent sees it. Linux only."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_SOURCE_ROOT = Path(__file__).parents[3]
_START_SECONDS = 60
_LEAVE_SECONDS = 1
_MAX_ANSWER_BYTES = 64 << 10
_ENVIRONMENT = {  # all of it: no credentials
    "PATH": os.defpath,
    "PYTHONPATH": str(_SOURCE_ROOT),
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",  # one per core otherwise, each with address space of its own
}


class WorkerDied(Exception):
    """No answer came, and the process is gone."""


class WorkerTooSlow(WorkerDied):
    """It was killed, because the answer was not there in time."""


class WorkerOutOfCpuTime(WorkerDied):
    """It used up the CPU time that it was allowed; another one would only do the same."""


class WorkerProcess:
    """`python -m module`, started at once with the descriptor of a socket and `arguments`.

    The kernel kills it with the thread that made this object, which must be that of the event loop.
    """

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        # Whole messages in order, with an end of file when either side dies.
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
        self._asking = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def usable(self) -> bool:
        return not self._asking and self._process.poll() is None

    async def ready(self) -> None:
        """Wait until it answers; raises WorkerDied."""
        await self._answer(_START_SECONDS)

    async def ask(self, request: dict[str, Any], fd: int | None, seconds: float) -> dict[str, Any]:
        """The answer to `request`, which `fd` accompanies, if any; raises WorkerDied."""
        self._asking = True
        try:
            socket.send_fds(self._connection, [json.dumps(request).encode()], [] if fd is None else [fd])
        except OSError as error:
            raise await self._death() from error
        answer = await self._answer(seconds)
        self._asking = False
        return answer

    def tell(self, request: dict[str, Any]) -> None:
        """Send a request that has no answer."""
        try:
            self._connection.send(json.dumps(request).encode())
        except OSError:
            self.kill()

    def kill(self) -> None:
        self._process.kill()

    async def exited(self) -> int:
        """Wait for the end of the process; its exit code, negative where a signal ended it."""
        return await asyncio.shield(self._exit)

    def close(self) -> None:
        """Give back our end of the connection, once the process has exited."""
        self._connection.close()

    async def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                message = await self._loop.sock_recv(self._connection, _MAX_ANSWER_BYTES)
        except TimeoutError as error:
            await self._gone()
            raise WorkerTooSlow(f"no answer within {seconds:g} s") from error
        except OSError as error:
            raise await self._death() from error
        if not message:
            raise await self._death()
        answer = _parsed(message)
        if "bug" in answer:
            await self._gone()
            raise WorkerDied(answer["bug"])
        return answer

    async def _death(self) -> WorkerDied:
        """What it died of, now that it has closed its end of the connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self.exited()
        code = await self._gone()
        return WorkerOutOfCpuTime("out of CPU time") if code == -signal.SIGXCPU else WorkerDied(f"exit code {code}")

    async def _gone(self) -> int:
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


def _parsed(message: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(message)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"bug": f"answered {message[:100]!r}"}
