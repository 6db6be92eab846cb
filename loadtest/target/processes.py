"""A stack on this machine, seen from outside: its CPU, its replicas, where its ingresses tell their queues."""

from collections.abc import Mapping

import psutil  # type: ignore[import-untyped]

from loadtest.sweep.samples import CPU_SECONDS, DESIRED, MACHINE_CPU, READY
from loadtest.target.metrics_page import MetricsPages
from videoanalysis.stack.stack import Stack

_SCALING_PATH = "/scaling"


class Processes:
    """CPU seconds of the services of a stack with all that they started, of its S3 server and of ourselves."""

    name = "the processes of the stack"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._loadtest = psutil.Process()
        self._last: dict[str, float] = {}

    def read(self) -> Mapping[str, float]:
        values: dict[str, float] = {}
        for kind, children in self._stack.services.items():
            alive = [child for child in children if child.exit_code is None]
            used = sum(_cpu_seconds(child.pid) for child in alive)
            # A replica that ended takes its count along, which must not go down.
            self._last[kind] = max(self._last.get(kind, 0.0), used)
            values[f"{CPU_SECONDS}.{kind}"] = self._last[kind]
            values[f"{DESIRED}.{kind}"] = len(children)
            values[f"{READY}.{kind}"] = len(alive)
        own = self._loadtest.cpu_times()
        values[f"{CPU_SECONDS}.loadtest"] = own.user + own.system
        return values


class Machine:
    """Share of all cores that are busy, whoever with, since the last time it was asked."""

    name = "the CPU of this machine"

    def __init__(self) -> None:
        self._last = _busy_and_all()

    def read(self) -> Mapping[str, float]:
        # psutil.cpu_percent would remember for each thread by itself, and we are asked from any.
        now = _busy_and_all()
        busy, elapsed = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return {MACHINE_CPU: busy / elapsed} if elapsed > 0 else {}


def scaling_pages(stack: Stack) -> MetricsPages:
    """Of ingresses with a scaling_port of 0: the port that is not the one of gRPC. Raises OSError if there is none."""
    urls = []
    for ingress in stack.services["ingress"]:
        grpc_port = int(ingress.address.rpartition(":")[2])
        other = sorted(_listening_ports(ingress.pid) - {grpc_port})
        if len(other) != 1:
            raise OSError(f"{ingress.name} listens on ports {other} beside gRPC's; expected its scaling port alone")
        urls.append(f"http://127.0.0.1:{other[0]}{_SCALING_PATH}")
    return MetricsPages(urls)


def _listening_ports(pid: int) -> set[int]:
    connections = psutil.Process(pid).net_connections("tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def _cpu_seconds(pid: int) -> float:
    """Of the process, of those it started, and of those among them that have ended."""
    try:
        process = psutil.Process(pid)
        return sum(_times(one) for one in [process, *process.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0.0


def _times(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _busy_and_all() -> tuple[float, float]:
    """CPU seconds of all cores, since the machine started."""
    times = psutil.cpu_times()
    # Guests are part of user and nice.
    everything = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return everything - times.idle - getattr(times, "iowait", 0.0), everything
