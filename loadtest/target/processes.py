"""Samples of a stack on this machine: CPU time, replicas, and the queue depths of its ingresses."""

from collections.abc import Mapping

import psutil  # type: ignore[import-untyped]

from loadtest.target.metrics_page import MetricsPages
from loadtest.target.source import CPU_SECONDS, DESIRED, MACHINE_CPU, READY
from videoanalysis.stack.stack import Stack


class Processes:
    """CPU seconds and replicas of each service of a stack with its child processes, and of the load test itself."""

    name = "the processes of the stack"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._loadtest = psutil.Process()
        self._last: dict[str, float] = {}

    def read(self) -> Mapping[str, float]:
        values: dict[str, float] = {}
        for kind, replicas in self._stack.services.items():
            running = [replica for replica in replicas if replica.exit_code is None]
            used = sum(_cpu_seconds(replica.pid) for replica in running)
            # The CPU time of a replica that ended is no longer readable, but the counter must not decrease.
            self._last[kind] = max(self._last.get(kind, 0.0), used)
            values[f"{CPU_SECONDS}.{kind}"] = self._last[kind]
            values[f"{DESIRED}.{kind}"] = len(replicas)
            values[f"{READY}.{kind}"] = len(running)
        own = self._loadtest.cpu_times()
        values[f"{CPU_SECONDS}.loadtest"] = own.user + own.system
        return values


class Machine:
    """The share of all cores that were busy since the previous read."""

    name = "the CPU of this machine"

    def __init__(self) -> None:
        self._last = _busy_and_total_seconds()

    def read(self) -> Mapping[str, float]:
        # psutil.cpu_percent keeps its state per thread, and reads come from any thread.
        now = _busy_and_total_seconds()
        busy, elapsed = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return {MACHINE_CPU: busy / elapsed} if elapsed > 0 else {}


def scaling_pages(stack: Stack) -> MetricsPages:
    """The scaling endpoints of ingresses with a `scaling_port` of 0: their listening port that is not gRPC's.

    Raises OSError unless each has exactly one.
    """
    urls = []
    for ingress in stack.services["ingress"]:
        connections = psutil.Process(ingress.pid).net_connections("tcp")
        listening = {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
        ports = sorted(listening - {int(ingress.address.rpartition(":")[2])})
        if len(ports) != 1:
            raise OSError(f"{ingress.name} listens on ports {ports} in addition to gRPC's; expected its scaling port")
        urls.append(f"http://127.0.0.1:{ports[0]}/scaling")
    return MetricsPages(urls)


def _cpu_seconds(pid: int) -> float:
    """Of the process and its descendants, including those that have ended."""
    seconds = 0.0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            times = one.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    except psutil.NoSuchProcess:
        # It ended meanwhile; the caller keeps the previous value.
        pass
    return seconds


def _busy_and_total_seconds() -> tuple[float, float]:
    """CPU seconds of all cores since the machine started."""
    times = psutil.cpu_times()
    # User and nice include the guests.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total
