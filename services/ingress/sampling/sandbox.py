"""What a process that opens hostile media gives up, before it does. Linux only."""

import ctypes
import os
import resource
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_MAX_DESCRIPTORS = 64

# landlock(7); system call numbers are the same on all architectures.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
# Version 1 knows execute, write and read, remove and make in all their forms (bits 0 to 12); later ones add to them.
_ALL_BUT_READING = 0x1FFF & ~(1 << 2 | 1 << 3)
_ADDED = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # rename across directories, truncate, control devices
_TCP_BIND_AND_CONNECT = 0b11  # from version 4 on

_libc = ctypes.CDLL(None, use_errno=True)


def enter_sandbox() -> None:
    """End with the parent process, gain no privileges and write to no file.

    Where the kernel has Landlock, also create, remove or execute no file, and open no TCP connection.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    with suppress(OSError):
        # If the container's memory runs out, the kernel ends this process rather than its parent.
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_DESCRIPTORS, _MAX_DESCRIPTORS))
    _forbid_changes_and_connections()


def allow_cpu(seconds: int) -> None:
    """End by SIGXCPU after `seconds` more of CPU time. (The kernel counts from the start of the process.)"""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))


def _forbid_changes_and_connections() -> None:
    version = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return
    files = _ALL_BUT_READING
    for since, right in _ADDED.items():
        files |= right if version >= since else 0
    attributes = struct.pack("=QQ", files, _TCP_BIND_AND_CONNECT) if version >= 4 else struct.pack("=Q", files)
    ruleset = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        _check(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
