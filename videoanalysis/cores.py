"""How many cores this process may use, in a container or not."""

import os
from collections.abc import Iterator
from pathlib import Path


def cores(control_groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """The cores on which this process is scheduled, or fewer if a control group limits its CPU time; at least one.

    Libraries see every core of the node. With a thread for each, those of a limited container compete for its CPU time,
    and all of them stop when it is used up.
    """
    scheduled = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([scheduled, *_quotas(control_groups, membership)])))


def limit_blas_threads(threads: int) -> None:
    """Lets each of numpy's matrix products use so many threads, where the environment does not set their number."""
    from threadpoolctl import threadpool_limits  # callers of the services do without it

    if not {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} & set(os.environ):
        threadpool_limits(threads)


def _quotas(control_groups: Path, membership: Path) -> Iterator[float]:
    """The limits, in cores, of the control groups that the process is in."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "cpu", "cpu,cpuacct"):
            group = control_groups / controllers / path.lstrip("/")
            # A container sees its own group as the root, but /proc may show its path on the node.
            while group.is_relative_to(control_groups):
                yield from _quota(group)
                group = group.parent


def _quota(group: Path) -> Iterator[float]:
    try:
        if (group / "cpu.max").exists():
            limit, period = (group / "cpu.max").read_text().split()
        else:  # version 1
            limit, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(limit) > 0:
            yield int(limit) / int(period)
    except (OSError, ValueError):  # no such group, or "max": no limit
        return
