"""A source of samples, and the names of the series that sources report."""

from collections.abc import Mapping
from typing import Protocol

# A series of one service is named "SERIES.SERVICE", such as queue.encoder.
IN_FLIGHT = "in_flight"
QUEUE = "queue"
DESIRED = "desired"
READY = "ready"
# A counter; its growth is the CPU time used.
CPU_SECONDS = "cpu_seconds"
# From 0 to 1, of all cores of this machine.
MACHINE_CPU = "machine_cpu"
GPU = "gpu_utilisation"


class Source(Protocol):
    """Something that can be read repeatedly."""

    @property
    def name(self) -> str: ...

    def read(self) -> Mapping[str, float]:
        """The present values by series. May block, and raise OSError or ValueError."""
        ...
