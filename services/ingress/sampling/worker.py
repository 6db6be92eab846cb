"""The child process in which media is opened: `python -m services.ingress.sampling.worker SOCKET_FD LIMITS`.

Media is hostile, so this process enters a sandbox before it opens any, and has no data but what its parent sends. It
sends {"ready": true, "sandbox": […]} and then answers one request at a time, each a JSON object with at most one file
descriptor:

    {"open": {…spec…}} + media file   → {"opened": {"claimed_duration_seconds": …, "memory_bytes": …}}
    {"next": true} + frame memory     → {"chunk": {…}, "decode_failures": …} or {"end": {…}}
    {"refine": {…cut…}}               → {"refined": {…cut…}, "frames_decoded": …, "frames_searched": …}
    {"close": true}                   → {"closed": true}

Before an answer it may send {"fetch": [start, end]}, for bytes of the media file that have not arrived yet; the parent
sends {"fetched": end} once those from `start` to that `end` are there. While it works it sends {"progress": true} now
and then. Times are [numerator, denominator]. A video that
cannot be sampled is answered with {"error": {"reason": …, "message": …}}, a lack of memory with
{"out_of_memory": true}; after {"bug": traceback} the process ends.
"""

import ctypes
import errno
import gc
import json
import math
import mmap
import os
import socket
import sys
import time
import traceback
from fractions import Fraction
from typing import Any

# PyAV imports these for the first subtitles, when no file can be opened any more.
import av.subtitles.codeccontext
import av.subtitles.stream  # noqa: F401
import numpy as np

from services.ingress.sampling import memory
from services.ingress.sampling import messages as sampling_messages
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.media_reader import MediaFile
from services.ingress.sampling.sampler import Sampler
from services.ingress.sampling.sandbox import enter_sandbox
from videoanalysis.errors import InvalidInput

_MAX_REQUEST_BYTES = 64 << 10
_REPORTS_BEFORE_STALL = 8  # of progress, within the time after which the parent gives up
_MAX_TRACEBACK_CHARACTERS = 8 << 10

_libc = ctypes.CDLL(None)


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    limits = json.loads(sys.argv[2])
    session = _Session(connection, limits)
    # What is imported is never garbage: the collection after each video passes over it.
    gc.freeze()
    _send(connection, {"ready": True, "sandbox": enter_sandbox()})
    while True:
        message, fds, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES, 1)
        if not message:  # the parent has exited
            return
        try:
            answer = session.answer(json.loads(message), fds[0] if fds else -1)
        except Exception:
            # Not to standard error: where that is a file, the sandbox forbids writing to it.
            _send(connection, {"bug": traceback.format_exc()[-_MAX_TRACEBACK_CHARACTERS:]})
            sys.exit(1)
        _send(connection, answer)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.send(json.dumps(message).encode())


class _Session:
    """The one video that is open, if any."""

    def __init__(self, connection: socket.socket, limits: dict[str, Any]) -> None:
        self._connection = connection
        self._limits = SamplingLimits(
            max_pixels=limits["max_pixels"],
            max_duration_seconds=limits["max_video_seconds"],
            max_packets=limits["max_packets"],
        )
        self._sampler: Sampler | None = None
        self._media_fd = -1
        self._frames_shape = (0, 0, 0, 3)
        self._report_interval = limits["stall_seconds"] / _REPORTS_BEFORE_STALL
        self._reported_at = 0.0

    def answer(self, request: dict[str, Any], fd: int) -> dict[str, Any]:
        self._reported_at = time.monotonic()
        try:
            if "open" in request:
                return {"opened": self._open(request["open"], fd)}
            if "next" in request:
                return self._next(fd)
            if "refine" in request:
                return self._refine(request["refine"])
            self._close()
            return {"closed": True}
        except InvalidInput as error:
            traceback.clear_frames(error.__traceback__)  # they may keep the frame memory mapped for a long time
            return {"error": {"reason": error.reason, "message": error.message}}
        except (MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOMEM:
                raise
            traceback.clear_frames(error.__traceback__)
            return {"out_of_memory": True}

    def _open(self, spec: dict[str, Any], fd: int) -> dict[str, Any]:
        self._close()
        self._media_fd = fd
        frames, size = spec["frames_per_chunk"], spec["image_size"]
        self._frames_shape = (frames, size, size, 3)
        media = MediaFile(fd, spec["media_bytes"], None if spec["media_complete"] else self._fetch)
        self._sampler = Sampler(
            media,
            frames_per_chunk=frames,
            chunk_duration=Fraction(*spec["chunk_duration"]),
            image_size=size,
            limits=self._limits,
            on_packet=self._report_progress,
            first_chunk=spec["first_chunk"],
            tolerance=Fraction(*spec["tolerance"]),
            reuse_difference=spec["reuse_difference"],
            frames_searched=spec["frames_searched"],
            decode_all=spec["decode_all"],
            detect_cuts=spec["detect_cuts"],
            threads=spec["threads"],
            start=Fraction(*spec["start"]),
            end=Fraction(*spec["end"]) if spec["end"] else None,
        )
        memory_bytes = memory.bytes_needed(
            self._sampler.picture_format,
            threads=spec["threads"],
            packet_bytes=min(self._limits.max_bytes_ahead, media.size),
            chunk_bytes=frames * size * size * 3,
        )
        return {
            "claimed_duration_seconds": self._sampler.claimed_duration_seconds,
            "memory_bytes": memory_bytes,
        }

    def _fetch(self, start: int, end: int) -> int:
        _send(self._connection, {"fetch": [start, end]})
        message = self._connection.recv(_MAX_REQUEST_BYTES)
        if not message:  # the parent has exited, or no longer wants this video
            os._exit(0)
        return int(json.loads(message)["fetched"])

    def _report_progress(self) -> None:
        if (now := time.monotonic()) - self._reported_at >= self._report_interval:
            self._reported_at = now
            _send(self._connection, {"progress": True})

    def _next(self, fd: int) -> dict[str, Any]:
        assert self._sampler is not None
        try:
            # Unmapped with the last view of it. The size is given since the sandbox has no fstat by path.
            frames = mmap.mmap(fd, math.prod(self._frames_shape))
        finally:
            os.close(fd)
        chunk = self._sampler.next_chunk(np.frombuffer(frames, np.uint8).reshape(self._frames_shape))
        if chunk is None:
            return {"end": _described_end(self._sampler)}
        return {"chunk": sampling_messages.from_chunk(chunk), "decode_failures": self._sampler.decode_failures}

    def _refine(self, cut: dict[str, Any]) -> dict[str, Any]:
        assert self._sampler is not None
        refined = self._sampler.refine_cut(sampling_messages.to_change(cut))
        return {
            "refined": sampling_messages.from_change(refined),
            "frames_decoded": self._sampler.frames_decoded,
            "frames_searched": self._sampler.frames_searched,
        }

    def _close(self) -> None:
        """Release everything of the video, and give freed memory back to the kernel."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        if self._media_fd >= 0:
            os.close(self._media_fd)
            self._media_fd = -1
        gc.collect()
        _libc.malloc_trim(0)


def _described_end(sampler: Sampler) -> dict[str, Any]:
    return {
        "duration": sampler.duration.as_integer_ratio(),
        "decode_failures": sampler.decode_failures,
        "frames_decoded": sampler.frames_decoded,
        "frames_dropped": sampler.frames_dropped,
    }


if __name__ == "__main__":
    main()
