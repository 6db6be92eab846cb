"""How often a process that frees and allocates large blocks needs new pages from the kernel."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES_OF_A_ROUND = 8 * (900 << 10) // os.sysconf("SC_PAGE_SIZE")
PROGRAM = """
import resource, sys
from videoanalysis.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for round in range(6):
    if round == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (900 << 10) for _ in range(8)]
    del blocks
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


def page_faults_of_a_round(mode: str, **variables: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        env=inherited | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ended.stdout)


pytestmark = pytest.mark.skipif("glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="settings of glibc alone")


def test_freed_memory_is_used_again():
    assert page_faults_of_a_round("default") > PAGES_OF_A_ROUND / 2
    assert page_faults_of_a_round("keep") < PAGES_OF_A_ROUND / 20


def test_variables_of_the_environment_come_first():
    variables = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
    assert page_faults_of_a_round("keep", **dict.fromkeys(variables, "131072")) > PAGES_OF_A_ROUND / 2
