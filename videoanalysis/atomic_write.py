"""Writes files atomically, for readers in other processes."""

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

# As many as Linux follows.
_MAX_LINKS = 40
# A file that can be written only in place: in a directory that cannot be, or mounted by itself.
_IRREPLACEABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that a reader sees all of it, or the previous content.

    Follows links, and keeps mode and owner of an existing file. What is no regular file, such as /dev/stdout or a FIFO,
    is written directly, and so is a file whose directory takes no new one. Raises OSError.
    """
    check_writable(path)
    target = _target(path)
    try:
        if _is_descriptor(target):
            # Not opened again: a redirected stdout would be written from its start, over earlier output.
            with os.fdopen(os.dup(int(target.name)), "wb") as file:
                file.write(data)
        elif target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target, data)
    except OSError as error:
        # Errors of write() have no file name.
        error.filename = str(path)
        raise


def check_writable(path: Path) -> None:
    """Raises OSError, naming `path` or its directory, if it cannot be written."""
    target = _target(path)
    if target.is_dir():
        raise _error(errno.EISDIR, path)
    if not target.exists():
        target = target.absolute().parent
        if not target.is_dir():
            raise _error(errno.ENOTDIR if target.exists() else errno.ENOENT, target)
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _error(errno.EACCES, target)


def _replace(path: Path, data: bytes) -> None:
    previous = path.stat() if path.exists() else None
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            if previous is not None:
                with suppress(PermissionError):
                    os.fchown(file.fileno(), previous.st_uid, previous.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(previous.st_mode))
            file.write(data)
        partial.replace(path)
    except OSError as error:
        if previous is None or error.errno not in _IRREPLACEABLE:
            raise
        path.write_bytes(data)
    finally:
        partial.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """The file that `path` links to, or the entry in /proc of the open descriptor."""
    for _ in range(_MAX_LINKS):
        if not path.is_symlink() or _is_descriptor(path):
            return path
        path = path.parent / path.readlink()
    raise _error(errno.ELOOP, path)


def _is_descriptor(path: Path) -> bool:
    return path.name.isdecimal() and path.parent.resolve() == Path("/proc/self/fd").resolve()


def _error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
