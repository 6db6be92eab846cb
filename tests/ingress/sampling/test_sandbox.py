import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.ingress.sampling.sandbox import MEASURES

ROOT = Path(__file__).parents[3]
LANDLOCK = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0
needs_landlock = pytest.mark.skipif(not LANDLOCK, reason="the kernel has no Landlock")

PRELUDE = """
import ctypes, mmap, os, resource, socket, sys, threading
from pathlib import Path
from services.ingress.sampling.sandbox import enter_sandbox
folder, address = Path(sys.argv[1]), ("127.0.0.1", int(sys.argv[2]))
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
libc = ctypes.CDLL(None, use_errno=True)
in_force = enter_sandbox()
"""


def sandboxed(tmp_path: Path, *lines: str, before: str = "", port: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs `lines` in a process that enters the sandbox after `before`; it may write to standard output, a pipe."""
    program = PRELUDE.replace("in_force =", f"{before}\nin_force =") + "\n".join(lines)
    return subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


def forbidden(tmp_path: Path, line: str, port: int = 0) -> str:
    """The last word of a sandboxed process that tries to do what `line` says."""
    ended = sandboxed(tmp_path, line, port=port)
    assert ended.returncode == 1
    return ended.stderr.splitlines()[-1]


def test_it_may_go_on_using_memory(tmp_path: Path) -> None:
    ended = sandboxed(
        tmp_path,
        "memory = mmap.mmap(-1, 4096)",
        "memory[:4] = b'word'",
        "os.write(1, memory[:4])",
        "bytearray(1 << 26)",
    )
    assert (ended.stdout, ended.returncode) == ("word", 0)


def test_it_reports_what_is_in_force(tmp_path: Path) -> None:
    ended = sandboxed(tmp_path, "os.write(1, ' '.join(in_force).encode())")
    assert set(ended.stdout.split()) <= {*MEASURES}
    assert ("landlock" in ended.stdout.split()) == LANDLOCK
    assert "seccomp" in ended.stdout.split()


@pytest.mark.parametrize(
    "line",
    [
        "os.open('/etc/passwd', os.O_RDONLY)",
        "os.open('/proc/self/environ', os.O_RDONLY)",
        "os.listdir('/')",
        "os.stat('/etc')",
        "os.kill(os.getppid(), 0)",
        "os.kill(os.getpid(), 0)",
        "os.fork()",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "os.memfd_create('x')",
        "os.pidfd_open(os.getppid())",
        "check(libc.setrlimit(9, (ctypes.c_ulong * 2)(1, 1)))",
        "os.chdir('/')",
        "os.setuid(0)",
        "check(libc.unshare(0x10000000))",
        "check(libc.ptrace(16, os.getppid(), 0, 0))",
        "check(libc.mount(b'none', b'/', b'tmpfs', 0, None))",
        "check(libc.syscall(425, 8, None))",  # io_uring_setup
    ],
)
def test_a_system_call_that_decoding_does_not_need_is_refused(tmp_path: Path, line: str) -> None:
    assert forbidden(tmp_path, line).startswith("PermissionError")


def test_threads_can_be_started(tmp_path: Path) -> None:
    ended = sandboxed(
        tmp_path, "thread = threading.Thread(target=os.write, args=(1, b'thread'))", "thread.start()", "thread.join()"
    )
    assert (ended.stdout, ended.returncode) == ("thread", 0)


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
def test_it_writes_to_no_file(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    last = forbidden(tmp_path, f"with open(folder / 'file', '{mode}') as f: f.write('changed')")
    assert last.startswith(("OSError: [Errno 27]", "PermissionError"))
    assert "changed" not in file.read_text()


def test_not_even_to_one_that_it_has_open(tmp_path: Path) -> None:
    ended = sandboxed(tmp_path, "file.write(b'x')", before="file = open(folder / 'file', 'wb', buffering=0)")
    assert "[Errno 27] File too large" in ended.stderr
    assert (tmp_path / "file").read_bytes() == b""


@needs_landlock
@pytest.mark.parametrize(
    "line",
    [
        "(folder / 'new').touch()",
        "(folder / 'file').unlink()",
        "(folder / 'file').rename(folder / 'other')",
        "(folder / 'new').mkdir()",
        "(folder / 'new').symlink_to('file')",
        "os.truncate(folder / 'file', 1)",
        "os.mkfifo(folder / 'new')",
        "os.execv(sys.executable, [sys.executable, '-c', ''])",
    ],
)
def test_it_changes_and_executes_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "file").write_text("content")
    assert forbidden(tmp_path, line).startswith("PermissionError")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "content")]


def test_it_gains_no_privileges_dumps_no_core_and_ends_first_when_memory_runs_out(tmp_path: Path) -> None:
    # The kernel writes what these files hold when they are read.
    before = "files = [open(f'/proc/self/{name}') for name in ('status', 'limits', 'oom_score_adj')]"
    ended = sandboxed(tmp_path, "for file in files: os.write(1, os.pread(file.fileno(), 1 << 16, 0))", before=before)
    lines = {" ".join(line.split()) for line in ended.stdout.splitlines()}
    assert {"NoNewPrivs: 1", "Seccomp: 2", "Max core file size 0 0 bytes"} <= lines
    assert int(ended.stdout.splitlines()[-1]) == 1000 > int(Path("/proc/self/oom_score_adj").read_text())


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    child = PRELUDE + "os.write(int(sys.argv[3]), b'ready'); import time; time.sleep(60)"
    reading, writing = os.pipe()
    parent = (
        "import subprocess, sys; "
        f"subprocess.Popen([sys.executable, '-c', {child!r}, '.', '0', '{writing}'], pass_fds=[{writing}]).wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, pass_fds=[writing]) as process:
        os.close(writing)
        assert os.read(reading, 5) == b"ready"
        process.kill()
        assert os.read(reading, 1) == b""  # end of file: no process has the other end open
    os.close(reading)
