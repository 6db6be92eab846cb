"""Runs the benchmarks of sampling, transport and whole requests, and writes their tables into RESULTS.md:
python -m benchmarks [NAME …]

The names are those in TABLES. Without a name all run but those of BY_NAME_ALONE, in under ten minutes on two idle
cores, and in three more the first time, when clips are rendered. Tables of benchmarks that were not run, or did not
end in time, stay as they are.
"""

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_RESULTS = Path(__file__).parent / "RESULTS.md"
_LIMIT_SECONDS = 480
TABLES = {
    "ways": "Sampling compared with other ways",
    "sampling": "Sampling compared with a full decode",
    "cut_detection": "What detecting cuts costs, by size",
    "latency": "Seconds by cores that are idle",
    "reuse": "Frames encoded with a reuse_difference",
    "memory": "Memory of a sampling process compared with plain decoding",
    "transport": "One chunk to one encoder compared with a single message",
    "requests": "Whole requests compared with ffmpeg alone",
    "ranged_reads": "First chunk of an object that arrives compared with downloading it first",
    "encoder": "The encoder compared with transformers",
}
# Useful on a machine with a GPU, where it takes minutes.
BY_NAME_ALONE = {"encoder"}


def main() -> None:
    names = sys.argv[1:] or [name for name in TABLES if name not in BY_NAME_ALONE]
    if unknown := set(names) - set(TABLES):
        sys.exit(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    failed = [name for name in names if not run(name)]
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def run(name: str) -> bool:
    start = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    try:
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_LIMIT_SECONDS, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    seconds = time.monotonic() - start
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    versions = f"Python {sys.version.split()[0]}" + (f", av {version('av')}" if find_spec("av") else "")
    how = f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {versions}; {seconds:.0f} s."
    _RESULTS.write_text(with_table(_RESULTS.read_text(), name, f"{how}\n\n{ended.stdout.strip()}"))
    print(f"{name}: {seconds:.0f} s")
    return True


def with_table(results: str, name: str, table: str) -> str:
    """The text of RESULTS.md with the table of one benchmark replaced, or added at the end."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{table}\n{end}"
    if begin in results:
        return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: section, results, flags=re.DOTALL)
    return f"{results.rstrip()}\n\n## {TABLES[name]}\n\n    python -m benchmarks {name}\n\n{section}\n"


if __name__ == "__main__":
    main()
