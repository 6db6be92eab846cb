"""`videoanalysis model verify`, which becomes `python -m services.encoder.verify`: what is printed, exit codes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from services.encoder.engine import StartupError
from services.encoder.verify import verify
from tests.encoder.test_verification import CHECKS

COMMAND = [Path(sys.executable).with_name("videoanalysis"), "model", "verify"]


@pytest.fixture
def without_scale(checkpoint_directory, tmp_path) -> Path:
    directory = Path(shutil.copytree(checkpoint_directory, tmp_path / "without scale"))
    weights = load_file(directory / "model.safetensors")
    weights["logit_scale"][:] = np.nan
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    """As a user whose working directory is not that of the services."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_prints_what_the_model_is_and_a_line_for_each_check(checkpoint_directory, siglip_engine, capsys):
    assert verify(str(checkpoint_directory), None, "cpu", "float32")
    about, findings, verdict = capsys.readouterr().out.split("\n\n")
    assert about.splitlines() == [
        f"model      {checkpoint_directory}",
        "revision   none, a directory",
        f"digest     {siglip_engine.model.digest}",
        "pictures   96 px, embedded in 64 dimensions",
        "computes   in float32 on cpu",
    ]
    assert [line.split(": ")[0] for line in findings.splitlines()] == [f"pass  {check}" for check in CHECKS]
    assert verdict == "no check failed\n"


def test_a_checkpoint_that_cannot_be_loaded_is_not_checked(checkpoint_directory, capsys):
    with pytest.raises(StartupError, match="is a directory"):
        verify(str(checkpoint_directory), "0123abc", "cpu", "auto")
    assert capsys.readouterr().out == ""


def test_a_failed_check_is_reported_with_its_remedy_and_exits_with_1(without_scale):
    ended = run(without_scale.parent, without_scale.name, "--device", "cpu")
    assert ended.returncode == 1
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert lines[0] == f"model      {without_scale.name}"
    (failure,) = (line for line in lines if line.startswith("FAIL"))
    assert failure.startswith("FAIL  logit scale and bias: scale nan, bias -16.5. ")
    assert "Download the weights again" in failure
    assert lines[-1] == "failed: logit scale and bias"


def test_a_model_that_is_not_there_exits_with_2_and_one_sentence(tmp_path):
    ended = run(tmp_path, "./nowhere")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "ENCODER_MODEL=./nowhere: there is no such directory; mount it or name a hub id.\n"
