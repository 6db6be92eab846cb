"""What a process that opens hostile media gives up, before it does. Linux only."""

import ctypes
import os
import resource
import signal
import struct
from contextlib import suppress
from pathlib import Path

from services.ingress.sampling import seccomp

MEASURES = ("landlock", "seccomp", "namespaces")
"""What not every kernel or container allows; the rest is always in force."""

REQUIRED_MEASURES = frozenset({"landlock", "seccomp"})
"""Those without which a process that is taken over could read files or signal its parent."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_MAX_DESCRIPTORS = 64

# landlock(7); system call numbers are the same on all architectures.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
# Version 1 handles execute, write, read, remove and make in all their forms (bits 0 to 12); later ones add to them.
_FILES = 0x1FFF
_ADDED = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # rename across directories, truncate, control devices
_TCP_BIND_AND_CONNECT = 0b11  # from version 4 on
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # outside of the sandbox; from version 6 on

_libc = ctypes.CDLL(None, use_errno=True)


def enter_sandbox() -> list[str]:
    """End with the parent process, gain no privileges, write to no file; returns which of MEASURES are in force.

    Landlock: no file or directory can be opened, created, removed or executed, no TCP connection made. Seccomp: only
    system calls that decoding needs. Namespaces: no network interface but an unconfigured loopback. What is open stays
    open, and nothing can be imported any more.
    """
    with suppress(OSError):
        # If the container's memory runs out, the kernel ends this process rather than its parent.
        Path("/proc/self/oom_score_adj").write_text("1000")
    in_force = []
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0:
        in_force.append("namespaces")
        _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))  # the parent reads /proc about this process
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_DESCRIPTORS, _MAX_DESCRIPTORS))
    if _enter_landlock():
        in_force.append("landlock")
    if seccomp.install():
        in_force.append("seccomp")
    return in_force


def _enter_landlock() -> bool:
    version = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    files = _FILES
    for since, right in _ADDED.items():
        files |= right if version >= since else 0
    handled = [files]
    if version >= 4:
        handled.append(_TCP_BIND_AND_CONNECT)
    if version >= 6:
        handled.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    ruleset = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        _check(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
