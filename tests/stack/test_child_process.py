import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from videoanalysis.stack.child_process import ChildProcess

SPEAKS_AND_FAILS = "import sys\nfor number in range(100): print('line', number)\nsys.exit(3)\n"
STARTS_ANOTHER = (
    "import subprocess, sys\n"
    "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(other.pid, flush=True)\n"
    "other.wait()\n"
)
OWNS_A_CHILD = (
    "import os, sys, time\n"
    "from pathlib import Path\n"
    "from videoanalysis.stack.child_process import ChildProcess\n"
    "here = Path(sys.argv[1])\n"
    "child = ChildProcess('sleeper', ['sleeper'], directory=here, cwd=here, environment=os.environ)\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def start(directory: Path, program: str) -> ChildProcess:
    (directory / "program.py").write_text(program)
    return ChildProcess("worker-0", ["program"], directory=directory, cwd=directory, environment=os.environ)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise TimeoutError


async def test_tells_how_it_ended_and_the_last_that_it_said(tmp_path):
    child = start(tmp_path, SPEAKS_AND_FAILS)
    assert await child.wait() == 3
    headline, *log = child.report().splitlines()
    assert headline == f"worker-0 (process {child.pid}) ended with exit code 3; its log ends with:"
    assert log[-1] == "line 99"
    assert len(log) == 20


async def test_tells_by_which_signal_it_was_ended(tmp_path):
    child = start(tmp_path, "import time; time.sleep(600)")
    child.kill()
    assert await child.wait() == -signal.SIGKILL
    assert child.report() == f"worker-0 (process {child.pid}) was killed by SIGKILL; its log is empty"


async def test_starts_again_with_changes_to_its_environment(tmp_path):
    child = start(tmp_path, "import os; print('said', os.environ.get('WORD'), 'in', os.environ['HOME'])")
    assert await child.wait() == 0
    for word in ("yes", "no"):
        child.restart({"WORD": word})
        assert await child.wait() == 0
    log = child.report().splitlines()[1:]
    assert log == [f"said {word} in {os.environ['HOME']}" for word in ("None", "yes", "no")]


async def test_a_restart_ends_what_still_runs(tmp_path):
    child = start(tmp_path, "import time; time.sleep(600)")
    before = child.pid
    child.restart({})
    assert not processes.runs(before)
    assert child.pid != before
    assert child.exit_code is None
    child.kill()


def test_does_nothing_while_it_is_suspended(tmp_path):
    child = start(tmp_path, "import time\nwhile True: print('tick', flush=True); time.sleep(0.01)")
    log = tmp_path / "worker-0.log"
    until(lambda: log.stat().st_size > 0)
    child.suspend()
    until(lambda: "T (stopped)" in Path(f"/proc/{child.pid}/status").read_text())
    said = log.stat().st_size
    time.sleep(0.2)
    assert log.stat().st_size == said
    child.resume()
    until(lambda: log.stat().st_size > said)
    child.kill()


def test_what_it_started_is_killed_with_it(tmp_path):
    child = start(tmp_path, STARTS_ANOTHER)
    log = tmp_path / "worker-0.log"
    until(lambda: log.read_text().endswith("\n"))
    other = int(log.read_text())
    assert processes.runs(other)
    child.kill()
    until(lambda: not processes.runs(other))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process when its parent is killed")
def test_ends_with_its_parent_even_if_that_is_killed(tmp_path):
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", OWNS_A_CHILD, tmp_path], stdout=subprocess.PIPE, text=True) as owner:
        child = int(owner.stdout.readline())
        # The process has set its parent-death signal once it runs the module.
        until(lambda: b"videoanalysis.stack.child_process" not in Path(f"/proc/{child}/cmdline").read_bytes())
        owner.kill()
    until(lambda: not processes.runs(child))
