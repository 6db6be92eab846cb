"""`videoanalysis scale explain` as a process: exit codes, stdout and stderr."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.scaling import recorded
from tests.scaling.api_server import ApiServer
from videoanalysis.cli.scale import app

COMMAND = Path(sys.executable).with_name("videoanalysis")
WITHOUT_KUBERNETES = "import sys; sys.modules['kubernetes'] = None; from videoanalysis.cli import main; main()"


def run(program: list[object], *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "KUBECONFIG": str(kubeconfig or "/nothing")}
    return subprocess.run(
        [*map(str, program), "scale", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def kubeconfig(server: ApiServer, tmp_path: Path) -> Path:
    return server.kubeconfig(tmp_path)


def test_a_healthy_release_is_explained_and_the_exit_code_is_0(kubeconfig):
    done = run([COMMAND], "explain", kubeconfig=kubeconfig)

    assert (done.returncode, done.stderr) == (0, "")
    assert "ingress   1 of 1 ready, scaled from 1 to 10" in done.stdout
    assert "9 in all: 5 at va-ingress-a, 4 at va-ingress-b (draining)." in done.stdout
    # 9 / 2 is 4.5, and there are 5.
    assert "rounded up 5" in done.stdout
    assert "It stays at 5 while the demand does." in done.stdout


def test_a_wrong_finding_sets_exit_code_1_and_stdout_is_json_only(server, kubeconfig):
    server.objects["Pod"].append(recorded.unschedulable_pod("encoder", "x"))

    done = run([COMMAND], "explain", "encoder", "-o", "json", kubeconfig=kubeconfig)

    assert (done.returncode, done.stderr) == (1, "")
    (encoder,) = json.loads(done.stdout)["services"]
    assert [each["code"] for each in encoder["findings"] if each["is_wrong"]] == ["POD_UNSCHEDULABLE"]


def test_a_cluster_without_a_release_is_exit_code_2_and_one_clear_sentence(kubeconfig):
    done = run([COMMAND], "explain", "--namespace", "empty", kubeconfig=kubeconfig)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no Deployments of ingress, encoder and decoder in namespace empty")


def test_a_service_that_does_not_exist_is_exit_code_2():
    done = CliRunner().invoke(app, ["explain", "painter"])

    assert done.exit_code == 2
    assert "'painter'" in done.stderr


def test_a_missing_kubernetes_client_is_reported_with_the_extra_to_install():
    done = run([sys.executable, "-c", WITHOUT_KUBERNETES], "explain")

    assert (done.returncode, done.stdout) == (2, "")
    assert "kubernetes is not installed; this command needs: pip install 'videoanalysis[operator]'" in done.stderr
