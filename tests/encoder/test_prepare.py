"""`videoanalysis model prepare`, which becomes `python -m services.encoder.prepare`: what is printed, exit codes."""

import subprocess
import sys
from pathlib import Path

from services.encoder.checkpoint import resolve

COMMAND = [Path(sys.executable).with_name("videoanalysis"), "model", "prepare"]


def run(directory: Path, *arguments: object) -> subprocess.CompletedProcess:
    """As a user whose working directory is not that of the services."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=directory, capture_output=True, text=True, timeout=100, check=False
    )


def test_writes_the_prepared_model_and_prints_the_digest_that_it_shares_with_its_source(checkpoint_directory, tmp_path):
    digest = resolve(str(checkpoint_directory), None).digest
    ended = run(tmp_path, checkpoint_directory, "prepared", "--digest", digest)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{digest}\n", "")
    written = resolve(str(tmp_path / "prepared"), None)
    written.require_intact()
    assert written.digest == digest


def test_another_digest_than_expected_exits_with_1_and_writes_nothing(checkpoint_directory, tmp_path):
    ended = run(tmp_path, checkpoint_directory, "prepared", "--digest", "sha256:0000")
    assert ended.returncode == 1
    assert ended.stderr.endswith(", not sha256:0000.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_the_way_exits_with_2_and_one_sentence(checkpoint_directory, tmp_path):
    (tmp_path / "note").write_text("mine")
    ended = run(tmp_path, checkpoint_directory, ".")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == ". exists and is no prepared model; name a new directory.\n"
