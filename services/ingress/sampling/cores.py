"""How many cores this process may use, in a container or not."""

import os
from pathlib import Path

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _CPU_QUOTA) -> int:
    """Those that it is scheduled on, or fewer if its control group is limited to less; at least one."""
    scheduled = len(os.sched_getaffinity(0))
    try:
        limit, period = quota.read_text().split()
        return max(1, min(scheduled, int(limit) // int(period)))
    except (OSError, ValueError):  # no control groups of version 2, or "max": no limit
        return scheduled
