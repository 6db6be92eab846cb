"""`python -m tests.fuzz --seconds 3600`: every target for its share of the time; exit code 1 if something was found.

Parsers run under atheris, media through sampling processes. What was found lies in build/fuzz, and so do the inputs
that led into new code, from which the next run begins.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import media
from tests.fuzz.targets import TARGETS

DIRECTORY = Path("build/fuzz")
MEDIA_SHARE = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=3600, help="for all targets together (default: 3600)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the changes of media")
    arguments = parser.parse_args()
    found = 0
    seconds = arguments.seconds * (1 - MEDIA_SHARE) / len(TARGETS)
    for name in TARGETS:
        executions, findings = _guided(name, max(1, round(seconds)))
        print(f"{name:16} {executions:>12,} executions  {findings} findings", flush=True)
        found += findings
    count, faults = asyncio.run(media.run(arguments.seconds * MEDIA_SHARE, arguments.seed))
    for number, (content, fault) in enumerate(faults):
        path = DIRECTORY / f"media-{arguments.seed}-{number}"
        path.write_bytes(content)
        print(f"{path}: {fault}")
    print(f"{'media':16} {count:>12,} executions  {len(faults)} findings  (seed {arguments.seed})")
    return 1 if found or faults else 0


def _guided(name: str, seconds: int) -> tuple[int, int]:
    """Executions and findings."""
    corpus = DIRECTORY / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(TARGETS[name].examples):
        (corpus / f"example-{number}").write_bytes(example)
    before = set(DIRECTORY.glob(f"{name}-*"))
    options = [f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={DIRECTORY}/{name}-"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", name, str(corpus), *options], capture_output=True, text=True
    )
    findings = set(DIRECTORY.glob(f"{name}-*")) - before
    executions = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    if findings or done.returncode or executions is None:
        print(done.stderr[-4000:])
    return int(executions[1]) if executions else 0, len(findings) or int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
