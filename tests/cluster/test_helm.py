"""Calls of helm, tested with a program that records its arguments in helm's place."""

from pathlib import Path

import pytest

from tests.cluster.helm import Helm, HelmError


def helm(tmp_path: Path, script: str) -> Helm:
    binary = tmp_path / "helm"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    chart, values = tmp_path / "chart", (tmp_path / "mine.yaml",)
    return Helm(str(binary), "kind-kind", "videos", "va", chart, values, ("image.registry=localhost", "image.tag=1"))


def test_the_caller_s_values_come_last(tmp_path):
    deployed = helm(tmp_path, f'echo "$@" > {tmp_path}/arguments')

    deployed.deploy(tmp_path / "own.yaml", 300)

    assert (tmp_path / "arguments").read_text() == (
        f"upgrade va {tmp_path}/chart --install --create-namespace --wait --values {tmp_path}/chart/values-local.yaml "
        f"--values {tmp_path}/own.yaml --values {tmp_path}/mine.yaml --set image.registry=localhost --set image.tag=1 "
        "--timeout 300s --namespace videos --kube-context kind-kind\n"
    )


def test_the_revision_is_the_newest(tmp_path):
    listed = "- {revision: 1, status: superseded}\n- {revision: 2, status: deployed}"

    assert helm(tmp_path, f"cat <<'END'\n{listed}\nEND").revision() == 2


def test_a_failure_carries_helm_s_message(tmp_path):
    failing = helm(tmp_path, "echo 'Error: image.registry is required' >&2; exit 1")

    with pytest.raises(HelmError, match=r"helm uninstall ended with 1: Error: image.registry is required"):
        failing.uninstall(60)


def test_a_missing_helm_is_an_error_that_names_it(tmp_path):
    absent = helm(tmp_path, "")
    (tmp_path / "helm").unlink()

    with pytest.raises(HelmError, match="install Helm"):
        absent.revision()
