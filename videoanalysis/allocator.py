"""Settings of glibc's allocator: a process keeps the freed memory of large messages for the next ones."""

import ctypes
import os

_PARAMETERS = {  # by environment variable: number of the parameter in malloc.h, bytes
    # Larger blocks are mapped and unmapped one by one; glibc accepts no more than this.
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20),
    # So much free memory at the end of the heap is kept.
    "MALLOC_TRIM_THRESHOLD_": (-1, 128 << 20),
    # The heap grows by so much more than is needed; it takes memory only once it is used.
    "MALLOC_TOP_PAD_": (-2, 16 << 20),
}


def keep_freed_memory() -> None:
    """Call at the start of a process. Variables of the environment take precedence; no effect with other C libraries.

    By default glibc returns a freed block of some 100 KiB to the kernel, which has to clear the pages of the next one:
    that was most of the CPU time of a chunk's upload.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for variable, (parameter, value) in _PARAMETERS.items():
        if mallopt is not None and variable not in os.environ:
            mallopt(parameter, value)
