"""A child process with a log file that the kernel ends together with its parent.

`python -m videoanalysis.stack.child_process PARENT MODULE …` asks the kernel for that, then runs `python -m MODULE …`.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LOG_LINES = 20
_LOG_BYTES = 8192
_POLL_SECONDS = 0.05
_REAP_SECONDS = 5
_PR_SET_PDEATHSIG = 1


class ChildProcess:
    """Runs `python -m` with the arguments `module`, from construction on; its output goes to a log in `directory`."""

    def __init__(
        self, name: str, module: Sequence[str], *, directory: Path, cwd: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        # host:port, set once it serves.
        self.address = ""
        self._module = module
        self._cwd = cwd
        self._environment = dict(environment)
        self._log = directory / f"{name}.log"
        self._process = self._start()

    def restart(self, changes: Mapping[str, str]) -> None:
        """Kill it if it still runs and start it again, with `changes` applied to its environment."""
        self.kill()
        self._environment.update(changes)
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "videoanalysis.stack.child_process", str(os.getpid()), *self._module],
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A process group of its own: Ctrl-C reaches only the parent, and `kill` also ends its children.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, negative if a signal ended it."""
        return self._process.poll()

    async def wait(self) -> int:
        """Waits for its end; returns the exit code."""
        while True:
            if (code := self.exit_code) is not None:
                return code
            await asyncio.sleep(_POLL_SECONDS)

    def terminate(self) -> None:
        """Send SIGTERM: it finishes work in progress and ends."""
        self._process.terminate()

    def suspend(self) -> None:
        """Stop it and its children with SIGSTOP, so that they hang until `resume`."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it and its children, and wait for its end."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)

    def report(self) -> str:
        """Its name, process id and state, and the last lines of its log."""
        code = self.exit_code
        if code is None:
            state = "is running"
        elif code < 0:
            state = f"was killed by {signal.Signals(-code).name}"
        else:
            state = f"ended with exit code {code}"
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _LOG_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        output = "its log ends with:\n" + "\n".join(lines) if lines else "its log is empty"
        return f"{self.name} (process {self.pid}) {state}; {output}"


def _exec_module(parent: int, module: Sequence[str]) -> None:
    if sys.platform == "linux":
        import ctypes

        # The kernel kills this process when its parent dies, even of SIGKILL.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent process has ended")
    os.execv(sys.executable, [sys.executable, "-m", *module])


if __name__ == "__main__":
    _exec_module(int(sys.argv[1]), sys.argv[2:])
