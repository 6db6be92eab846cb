"""The temporary directory of a stack; that of a stack which was killed is removed by the next one."""

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "videoanalysis-stack-"
# Locked while its owner lives: the kernel frees the lock, whatever ends the process.
_LOCK = ".lock"


# With less, processes of the stack end without even a log.
_MIN_FREE_BYTES = 64 << 20


class WorkDirectory:
    """At `path` until it is removed. Raises OSError if there is no space for it."""

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        _remove_abandoned(parent)
        if shutil.disk_usage(parent).free < _MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(parent))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Locked before it has its name, so that no other process finds it unlocked.
        unnamed = self.path / ".unlocked"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(parent: Path) -> None:
    """Directories of this user whose owners have ended."""
    for directory in parent.glob(f"{_PREFIX}*"):
        # OSError: there is no lock, it is held, or another process has just removed the directory.
        with suppress(OSError), (directory / _LOCK).open("rb") as lock:
            if os.fstat(lock.fileno()).st_uid == os.geteuid() and not directory.is_symlink():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
