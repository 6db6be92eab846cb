"""`python -m services.encoder.fetch`, which runs before an encoder: what it prints, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

from services.encoder.checkpoint import resolve

ROOT = Path(__file__).parents[2]


def fetch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.encoder.fetch", *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_prints_the_digest_that_the_encoder_will_have(checkpoint_directory):
    ended = fetch(str(checkpoint_directory))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{resolve(str(checkpoint_directory), None).digest}\n"


def test_accepts_the_expected_files(checkpoint_directory):
    digest = resolve(str(checkpoint_directory), None).digest
    assert fetch(str(checkpoint_directory), f"--digest={digest}").returncode == 0


def test_refuses_other_files_than_expected(checkpoint_directory):
    digest = resolve(str(checkpoint_directory), None).digest
    ended = fetch(str(checkpoint_directory), "--digest=sha256:0000")
    assert ended.returncode == 1
    assert ended.stderr == (
        f"{checkpoint_directory}: the digest of its files is {digest}, not sha256:0000 as expected.\n"
    )


def test_tells_apart_a_checkpoint_that_is_not_there(tmp_path):
    ended = fetch(str(tmp_path / "nothing"))
    assert ended.returncode == 2
    assert "there is no such directory" in ended.stderr
