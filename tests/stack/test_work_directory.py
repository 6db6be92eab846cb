import os
import signal
import subprocess
import sys
import tempfile

import pytest

from videoanalysis.stack.work_directory import WorkDirectory

OWNER = (
    "import sys; from videoanalysis.stack.work_directory import WorkDirectory\n"
    "print(WorkDirectory().path, flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def owner(directory) -> subprocess.Popen:
    """A process that has made one, whose path is the first line that it prints."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_that_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_stays(temporary):
    with owner(temporary) as killed, owner(temporary) as living:
        abandoned, used = killed.stdout.readline().strip(), living.stdout.readline().strip()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert os.path.isdir(abandoned)
        own = WorkDirectory()
        assert sorted(os.listdir(temporary)) == sorted(map(os.path.basename, (used, own.path)))
        own.remove()
        living.communicate()


def test_directories_of_others_stay(temporary):
    (temporary / "videoanalysis-stack-without-a-lock").mkdir()
    (temporary / "mine").mkdir()
    (temporary / "mine" / ".lock").touch()
    (temporary / "videoanalysis-stack-link").symlink_to("mine")
    if os.geteuid() == 0:
        (temporary / "videoanalysis-stack-of-nobody").mkdir()
        (temporary / "videoanalysis-stack-of-nobody" / ".lock").touch()
        os.chown(temporary / "videoanalysis-stack-of-nobody" / ".lock", 65534, 65534)
    before = set(os.listdir(temporary))
    WorkDirectory().remove()
    assert set(os.listdir(temporary)) == before
    assert (temporary / "mine" / ".lock").exists()


def test_removing_it_leaves_nothing(temporary):
    directory = WorkDirectory()
    (directory.path / "file").touch()
    directory.remove()
    assert os.listdir(temporary) == []
