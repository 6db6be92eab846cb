"""The extras that commands need, tried with the packages of all others missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rendering import render, steady
from videoanalysis.storage import S3Uri, Storage

ROOT = Path(__file__).parents[2]
# Of the extras, but for those of `s3`.
PACKAGES = [
    "av",
    "cachetools",
    "joserfc",
    "kubernetes",
    "moto",
    "prometheus_client",
    "pydantic_settings",
    "safetensors",
    "torch",
]
PROGRAM = """
import json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))
from videoanalysis.cli import app
app(sys.argv[2:])
"""


def without(packages: list[str], *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", PROGRAM, json.dumps(packages), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


async def test_upload_needs_the_extra_s3_alone(tmp_path, storage: Storage, s3_endpoint, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    clip = render(tmp_path / "clip.mp4", steady(10, 1))
    target = S3Uri(bucket, "clip.mp4")
    analyze = ["analyze", clip, "--address", "127.0.0.1:9", "--timeout", 1, "-q", "--upload", target]
    ended = without(PACKAGES, *analyze)
    assert ended.returncode == 75, ended.stderr
    assert await storage.read(target, 1 << 20) == clip.read_bytes()

    ended = without([*PACKAGES, "aiobotocore"], *analyze)
    assert ended.returncode == 1
    assert ended.stderr.endswith("this command needs: pip install 'videoanalysis[s3]'\n")


@pytest.mark.parametrize("arguments", [["up"], ["analyze", "sample://clip"], ["redecode", "result.json"], ["selftest"]])
def test_without_a_checkout_commands_that_start_services_say_so_at_once(tmp_path, arguments):
    shutil.copytree(ROOT / "videoanalysis", tmp_path / "videoanalysis", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "result.json").write_text("{}")
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(PACKAGES), *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path} has no services/: run this from a checkout")
    assert ("or name a running service with --address" in line) == (arguments != ["up"])


@pytest.mark.parametrize("arguments", [["up"], ["analyze", "sample://clip"]])
def test_in_a_checkout_they_name_the_extra(arguments):
    ended = without(PACKAGES, *arguments)
    assert ended.returncode == 1
    assert ended.stderr.endswith("this command needs: pip install 'videoanalysis[stack]'\n")
