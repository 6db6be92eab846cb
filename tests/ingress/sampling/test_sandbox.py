import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LANDLOCK = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0
needs_landlock = pytest.mark.skipif(not LANDLOCK, reason="the kernel has no Landlock")

PRELUDE = """
import ctypes, mmap, os, resource, socket, sys
from pathlib import Path
from services.ingress.sampling.sandbox import enter_sandbox
folder, address = Path(sys.argv[1]), ("127.0.0.1", int(sys.argv[2]))
enter_sandbox()
"""


def sandboxed(tmp_path: Path, *lines: str, port: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs `lines` in a sandboxed process; standard output is a pipe, which it may write."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + "\n".join(lines), str(tmp_path), str(port)],
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


def test_it_may_go_on_reading_and_writing_to_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    ended = sandboxed(
        tmp_path,
        "print((folder / 'file').read_text())",
        "memory = mmap.mmap(-1, 4096)",
        "memory[:4] = b'word'",
        "print(memory[:4])",
    )
    assert ended.stdout.splitlines() == ["content", "b'word'"]


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
def test_it_writes_to_no_file(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    last = forbidden(tmp_path, f"with open(folder / 'file', '{mode}') as f: f.write('changed')")
    assert last.startswith(("OSError: [Errno 27]", "PermissionError"))
    assert "changed" not in file.read_text()


def test_not_even_to_one_that_it_has_open(tmp_path: Path) -> None:
    lines = (
        PRELUDE.replace("enter_sandbox(", "file = open(folder / 'file', 'wb', buffering=0)\nenter_sandbox(")
        + "file.write(b'x')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", lines, str(tmp_path), "0"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
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


@needs_landlock
def test_it_makes_no_connection(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert forbidden(tmp_path, "socket.create_connection(address)", server.getsockname()[1]).startswith(
            "PermissionError"
        )


def test_cpu_time_runs_out(tmp_path: Path) -> None:
    ended = sandboxed(tmp_path, "allow_cpu(0)", "while True: pass")
    assert ended.returncode == -24  # SIGXCPU


def test_it_gains_no_privileges_and_dumps_no_core(tmp_path: Path) -> None:
    ended = sandboxed(tmp_path, "print(Path('/proc/self/status').read_text(), Path('/proc/self/limits').read_text())")
    lines = {" ".join(line.split()) for line in ended.stdout.splitlines()}
    assert "NoNewPrivs: 1" in lines
    assert "Max core file size 0 0 bytes" in lines


def test_it_is_the_first_to_go_when_memory_runs_out(tmp_path: Path) -> None:
    ended = sandboxed(tmp_path, "print(Path('/proc/self/oom_score_adj').read_text())")
    assert int(ended.stdout) == 1000 > int(Path("/proc/self/oom_score_adj").read_text())


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
        assert os.read(reading, 1) == b""  # nobody is left who could write
    os.close(reading)
