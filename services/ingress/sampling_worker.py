"""The child process in which media is opened: `python -m services.ingress.sampling_worker SOCKET_FD LIMITS`.

Media is hostile. This process has no credentials, no way to gain privileges, bounded memory and CPU time, and writes
nothing but the frame memory it is given. It answers one request at a time, each a JSON object with at most one file
descriptor beside it:

    {"open": {…plan…}} + media file   → {"opened": {"claimed_duration_seconds": …}}
    {"next": true} + frame memory     → {"chunk": {…}} or {"end": {…}}
    {"close": true}                   → no answer

A request that fails is answered with {"error": {"reason": …, "message": …}}.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
from fractions import Fraction
from typing import Any

import numpy as np

from services.ingress.sampler import Sampler, SamplingLimits
from services.ingress.sampling_plan import SampledChunk
from videoanalysis.errors import InvalidInput

_MAX_REQUEST_BYTES = 64 << 10
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    limits = json.loads(sys.argv[2])
    _confine(limits["memory_bytes"])
    accepted = SamplingLimits(
        max_pixels=limits["max_pixels"],
        max_duration_seconds=limits["max_video_seconds"],
        max_packets=limits["max_packets"],
    )
    session = _Session(limits["cpu_seconds"], accepted)
    connection.send(json.dumps({"ready": True}).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES, 1)
        if not message:  # the parent is gone
            return
        reply = session.answer(json.loads(message), fds[0] if fds else -1)
        if reply is not None:
            connection.send(json.dumps(reply).encode())


class _Session:
    """The one video that is open, if any."""

    def __init__(self, cpu_seconds: int, limits: SamplingLimits) -> None:
        self._cpu_seconds = cpu_seconds
        self._limits = limits
        self._sampler: Sampler | None = None
        self._media_fd = -1
        self._frames = self._size = 0

    def answer(self, request: dict[str, Any], fd: int) -> dict[str, Any] | None:
        try:
            if "open" in request:
                return {"opened": self._open(request["open"], fd)}
            if "next" in request:
                return self._next(fd)
            self._close()
            return None
        except InvalidInput as error:
            return {"error": {"reason": error.reason, "message": error.message}}
        except MemoryError:
            return {
                "error": {"reason": "VIDEO_OVER_LIMIT", "message": "video_uri: decoding needs more memory than allowed"}
            }

    def _open(self, plan: dict[str, Any], fd: int) -> dict[str, Any]:
        self._close()
        self._media_fd = fd
        self._frames, self._size = plan["frames_per_chunk"], plan["image_size"]
        _allow_cpu(self._cpu_seconds)
        self._sampler = Sampler(
            f"/proc/self/fd/{fd}",
            frames_per_chunk=self._frames,
            chunk_duration=Fraction(plan["chunk_duration"]),
            image_size=self._size,
            limits=self._limits,
        )
        self._sampler.__enter__()
        scratch = np.empty((self._frames, self._size, self._size, 3), np.uint8)
        for _ in range(plan["skip_chunks"]):
            self._sampler.next_chunk(scratch)
        return {"claimed_duration_seconds": self._sampler.claimed_duration_seconds}

    def _next(self, fd: int) -> dict[str, Any]:
        assert self._sampler is not None
        try:
            with mmap.mmap(fd, 0) as memory:
                out = np.frombuffer(memory, np.uint8).reshape(self._frames, self._size, self._size, 3)
                chunk = self._sampler.next_chunk(out)
                del out  # the mapping cannot be closed while a view of it lives
        finally:
            os.close(fd)
        return {"end": self._end()} if chunk is None else {"chunk": _described(chunk)}

    def _end(self) -> dict[str, Any]:
        assert self._sampler is not None
        return {
            "duration": str(self._sampler.duration),
            "decode_failures": self._sampler.decode_failures,
            "frames_decoded": self._sampler.frames_decoded,
        }

    def _close(self) -> None:
        if self._sampler is not None:
            self._sampler.__exit__(None, None, None)
            self._sampler = None
        if self._media_fd >= 0:
            os.close(self._media_fd)
            self._media_fd = -1


def _described(chunk: SampledChunk) -> dict[str, Any]:
    return {
        "index": chunk.index,
        "start": str(chunk.start),
        "duration": str(chunk.duration),
        "frame_times": [str(frame_time) for frame_time in chunk.frame_times],
    }


def _confine(memory_bytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A terminal's Ctrl-C reaches the whole group; the parent decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _allow_cpu(seconds: int) -> None:
    """The limit counts from the process's start, so each video moves it on."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))


if __name__ == "__main__":
    main()
