import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from videoanalysis.atomic_write import check_writable, write_atomically

NOBODY = 65534


@pytest.fixture(params=["root", "another user"])
def folder(request):
    """A directory of the user as whom the test runs."""
    is_root = os.geteuid() == 0
    if request.param == "root" and not is_root:
        pytest.skip("the tests do not run as root")
    path = Path(tempfile.mkdtemp())
    if request.param == "another user" and is_root:
        os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield path
    if is_root:
        os.seteuid(0)
    shutil.rmtree(path)


def test_a_reader_that_opened_the_old_content_keeps_it(folder):
    path = folder / "state.json"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"brand new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"brand new"
    assert os.listdir(folder) == ["state.json"]


def test_a_write_that_fails_leaves_nothing(folder):
    (folder / "state.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"state\.json"):
        write_atomically(folder / "state.json", b"data")
    assert os.listdir(folder) == ["state.json"]


def test_a_file_of_the_user_beside_it_stays(folder):
    (folder / "report.html.partial").write_bytes(b"mine")
    write_atomically(folder / "report.html", b"report")
    assert (folder / "report.html.partial").read_bytes() == b"mine"


def test_a_link_stays_and_its_target_is_written(folder):
    (folder / "disk").mkdir()
    (folder / "disk" / "report.html").write_bytes(b"old")
    (folder / "latest").symlink_to("disk/report.html")
    (folder / "link").symlink_to(folder / "latest")
    write_atomically(folder / "link", b"new")
    assert (folder / "link").readlink() == folder / "latest"
    assert (folder / "latest").readlink() == Path("disk/report.html")
    assert (folder / "disk" / "report.html").read_bytes() == b"new"
    assert os.listdir(folder / "disk") == ["report.html"]


def test_a_link_to_a_file_that_does_not_exist_yet_creates_it(folder):
    (folder / "link").symlink_to("target")
    write_atomically(folder / "link", b"new")
    assert (folder / "link").is_symlink()
    assert (folder / "target").read_bytes() == b"new"


def test_a_file_in_a_directory_that_cannot_be_written_is_written_in_place(folder):
    if os.geteuid() == 0:
        pytest.skip("root can write every directory")
    path = folder / "report.html"
    path.write_bytes(b"old")
    folder.chmod(0o555)
    write_atomically(path, b"new")
    folder.chmod(0o755)
    assert path.read_bytes() == b"new"


def test_links_in_a_circle_are_an_error(folder):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(folder / "a", b"new")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_an_existing_file_keeps_its_mode_and_owner(folder, mode):
    path = folder / "report.html"
    path.write_bytes(b"old")
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    before = path.stat()
    write_atomically(path, b"new")
    after = path.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (mode, before.st_uid, before.st_gid)


def test_a_new_file_has_the_mode_that_the_umask_gives(folder):
    previous = os.umask(0o027)
    try:
        write_atomically(folder / "report.html", b"new")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((folder / "report.html").stat().st_mode) == 0o640


def test_a_full_device_is_an_error_and_stays_a_device(folder):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_atomically(Path("/dev/full"), b"data")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    write_atomically(Path("/dev/null"), b"data")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_fifo_takes_the_data_and_stays(folder):
    os.mkfifo(folder / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((folder / "pipe").read_bytes()))
    reader.start()
    write_atomically(folder / "pipe", b"data")
    reader.join()
    assert received == [b"data"]
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_continued_also_where_it_is_a_file(tmp_path, name):
    program = (
        "import sys; from pathlib import Path; from videoanalysis.atomic_write import write_atomically\n"
        f"print('before', flush=True); write_atomically(Path({name!r}), b'data\\n'); print('after')"
    )
    with (tmp_path / "output").open("wb") as output:
        subprocess.run([sys.executable, "-c", program], stdout=output, check=True, timeout=30)
    assert (tmp_path / "output").read_text() == "before\ndata\nafter\n"
    piped = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, timeout=30, text=True)
    assert piped.stdout == "before\ndata\nafter\n"


def test_what_cannot_be_written_is_known_before(folder):
    check_writable(folder / "new")
    assert os.listdir(folder) == []
    with pytest.raises(IsADirectoryError):
        check_writable(folder)
    with pytest.raises(FileNotFoundError, match="none"):
        check_writable(folder / "none" / "new")
    (folder / "file").touch()
    check_writable(folder / "file")
    with pytest.raises(NotADirectoryError):
        check_writable(folder / "file" / "new")
    if os.geteuid() != 0:
        (folder / "file").chmod(0o444)
        with pytest.raises(PermissionError, match="file"):
            check_writable(folder / "file")
        folder.chmod(0o555)
        with pytest.raises(PermissionError, match=str(folder)):
            check_writable(folder / "new")
        folder.chmod(0o755)
