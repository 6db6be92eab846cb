import os
import subprocess
import sys
from pathlib import Path

import pytest

from videoanalysis.cores import cores

SCHEDULED = len(os.sched_getaffinity(0))


def cores_in(tmp_path: Path, membership: str, **files: str) -> int:
    """`files` by their path below the mount of the control groups, "__" for "/"."""
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "groups" / name.replace("__", "/").replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cores(tmp_path / "groups", tmp_path / "membership")


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("max 100000", SCHEDULED),
        (f"{SCHEDULED * 200000} 100000", SCHEDULED),
        ("nonsense", SCHEDULED),
    ],
)
def test_a_limit_of_the_container_counts(tmp_path: Path, quota: str, expected: int) -> None:
    assert cores_in(tmp_path, "0::/\n", cpu_max=quota) == expected


def test_a_limit_of_an_outer_group_counts(tmp_path: Path) -> None:
    files = {"pod__app__cpu_max": "max 100000", "pod__cpu_max": "100000 100000", "cpu_max": "max 100000"}
    assert cores_in(tmp_path, "0::/pod/app\n", **files) == 1


def test_a_limit_counts_where_the_process_sees_its_path_on_the_node(tmp_path: Path) -> None:
    assert cores_in(tmp_path, "0::/kubepods/pod1/app\n", cpu_max="100000 100000") == 1


@pytest.mark.parametrize(("quota", "expected"), [("100000", 1), ("-1", SCHEDULED)])
def test_control_groups_of_version_1_count(tmp_path: Path, quota: str, expected: int) -> None:
    files = {"cpu__pod__cpu_cfs_quota_us": quota, "cpu__pod__cpu_cfs_period_us": "100000"}
    assert cores_in(tmp_path, "4:memory:/pod\n2:cpu:/pod\n0::/\n", **files) == expected


def test_without_control_groups_all_scheduled_cores_count(tmp_path: Path) -> None:
    assert cores(tmp_path, tmp_path / "none") == SCHEDULED


BLAS_THREADS = """
import numpy
from threadpoolctl import threadpool_info
from videoanalysis.cores import limit_blas_threads
limit_blas_threads(1)
print([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
"""


@pytest.mark.skipif(SCHEDULED == 1, reason="needs two cores")
@pytest.mark.parametrize(("variables", "expected"), [({}, "[1]"), ({"OPENBLAS_NUM_THREADS": "2"}, "[2]")])
def test_matrix_products_use_those_cores_unless_the_environment_sets_another_number(variables, expected) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", BLAS_THREADS]
    ended = subprocess.run(command, env=inherited | variables, stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.strip() == expected
