"""A value that is read from files, and read again when they change."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

_log = structlog.get_logger()


class InvalidFile(Exception):
    """A file that a setting names cannot be used; the message begins with the name of the setting."""


class ReloadedFiles(Generic[T]):
    """What `load` returns, called again after one of `paths` has changed.

    Raises InvalidFile, naming `setting`, if the first `load` raises OSError or ValueError. Later the last valid value
    stays, with an error in the log. Safe to use from many threads.
    """

    def __init__(self, setting: str, paths: Sequence[Path], load: Callable[[], T]) -> None:
        self._setting = setting
        self._paths = paths
        self._load = load
        self._lock = Lock()
        self._versions = self._read_versions()
        try:
            self._value = load()
        except (OSError, ValueError) as error:
            raise InvalidFile(f"{setting}: {error}") from error

    def get(self) -> T:
        with self._lock:
            # Compared before the files are read: the next call finds a change during the reading.
            if (versions := self._read_versions()) != self._versions:
                self._versions = versions
                try:
                    self._value = self._load()
                except (OSError, ValueError) as error:
                    _log.error(
                        "changed file rejected, the previous content stays", setting=self._setting, error=str(error)
                    )
                else:
                    _log.info("changed file loaded", setting=self._setting)
            return self._value

    def _read_versions(self) -> list[tuple[int, int, int] | None]:
        return [_version(path) for path in self._paths]


def _version(path: Path) -> tuple[int, int, int] | None:
    """Also changes when the file is replaced, as Kubernetes replaces those of a mounted Secret."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
