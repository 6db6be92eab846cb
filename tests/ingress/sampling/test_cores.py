import os
from pathlib import Path

import pytest

from services.ingress.sampling.cores import cores

SCHEDULED = len(os.sched_getaffinity(0))


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
    (tmp_path / "cpu.max").write_text(quota)
    assert cores(tmp_path / "cpu.max") == expected


def test_without_control_groups_all_scheduled_cores_count(tmp_path: Path) -> None:
    assert cores(tmp_path / "none") == SCHEDULED
