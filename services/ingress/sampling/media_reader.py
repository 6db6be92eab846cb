"""Reads the media file inside a worker, through its descriptor alone: by then the worker cannot open files."""

import os
import threading
from collections.abc import Callable

# Waits until bytes from the first position to at most the second are there; returns up to where they are.
Fetch = Callable[[int, int], int]

_FIND_BYTES = 128 << 10


class MediaFile:
    """The file behind `fd`; parts that may be missing are requested with `fetch` before they are read."""

    def __init__(self, fd: int, size: int, fetch: Fetch | None) -> None:
        self.fd = fd
        self.size = size
        self._fetch = fetch
        self._lock = threading.Lock()
        self._present = (0, 0 if fetch else size)

    def open(self, start: int = 0) -> "MediaReader":
        """A reader with a position of its own, of the bytes from `start` on."""
        return MediaReader(self, start)

    def find(self, pattern: bytes, start: int) -> int | None:
        """Where `pattern` is found first at or after `start`."""
        while start < self.size:
            block = self.read(start, _FIND_BYTES)
            if (place := block.find(pattern)) >= 0:
                return start + place
            start += max(1, len(block) - len(pattern) + 1)
        return None

    def read(self, start: int, count: int) -> bytes:
        end = min(start + count, self.size)
        if start >= end:
            return b""
        with self._lock:
            first, last = self._present
            if self._fetch is not None and not first <= start < last:
                self._present = (start, self._fetch(start, end))
                first, last = self._present
        return os.pread(self.fd, min(end, last) - start, start)


class MediaReader:
    """A file object for PyAV; positions are counted from `start`."""

    def __init__(self, file: MediaFile, start: int) -> None:
        self._file = file
        self._start = start
        self._position = 0

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(self._start + self._position, self._file.size if count < 0 else count)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size - self._start}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position
