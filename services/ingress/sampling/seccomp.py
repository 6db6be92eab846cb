"""A seccomp filter for a process that decodes media: an allow-list of system calls; all others fail with EPERM.

Written as BPF here: libseccomp and its Python binding would have to be in the image, for two dozen instructions.
"""

import ctypes
import errno
import os
import platform
import struct

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JSET|K, BPF_RET|K
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_CLONE_THREAD = 0x00010000

# Numbers on x86_64 and on aarch64. No open, socket, execve, ptrace, kill, setrlimit or mount among them.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "exit": (60, 93),
    "fcntl": (72, 25),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}
_TGKILL, _CLONE, _CLONE3 = (234, 131), (56, 220), (435, 435)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install() -> bool:
    """Whether the filter is in force, which other architectures and kernels lack; needs no_new_privs."""
    if (known := _ARCHITECTURES.get(platform.machine())) is None:
        return False
    instructions = _filter(*known)
    program = _Program(len(instructions) // 8, instructions)
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(column: int, architecture: int) -> bytes:
    refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
    allow = _instruction(_RETURN, _ALLOW)
    code = _instruction(_LOAD, _ARCHITECTURE) + _instruction(_EQUAL, architecture, 1, 0) + refuse
    code += _instruction(_LOAD, _NUMBER)
    for numbers in _ALLOWED.values():
        code += _instruction(_EQUAL, numbers[column], 0, 1) + allow
    # Its arguments are in memory, where a filter cannot look; without it, threads are made by clone.
    code += _instruction(_EQUAL, _CLONE3[column], 0, 1) + _instruction(_RETURN, _ERRNO | errno.ENOSYS)
    # Threads, but no processes.
    code += _instruction(_EQUAL, _CLONE[column], 0, 4) + _instruction(_LOAD, _FIRST_ARGUMENT)
    code += _instruction(_ANY_BIT, _CLONE_THREAD, 0, 1) + allow + refuse
    # abort() signals the process itself.
    code += _instruction(_EQUAL, _TGKILL[column], 0, 3) + _instruction(_LOAD, _FIRST_ARGUMENT)
    code += _instruction(_EQUAL, os.getpid(), 0, 1) + allow
    return code + refuse


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
