"""Compared with processes that use a known amount of CPU time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from loadtest.target.processes import Machine, Processes, scaling_pages

BUSY = "import time\nwhile time.process_time() < {seconds}: pass\n"
# Uses 0.3 s of CPU time, as do a child that has ended and one that runs on.
FAMILY = f"""\
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {BUSY.format(seconds=0.3)!r}])
living = subprocess.Popen([sys.executable, "-c", {BUSY.format(seconds=0.3) + "print(1, flush=True); time.sleep(60)"!r}])
{BUSY.format(seconds=0.3)}
print("worked", flush=True)
time.sleep(60)
"""
LISTENING = """\
import socket, time
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range({count})]
print(*(one.getsockname()[1] for one in sockets), flush=True)
time.sleep(60)
"""


@dataclass
class FakeStack:
    """The part of a Stack that is read here."""

    services: dict[str, list[SimpleNamespace]] = field(default_factory=dict)


@contextmanager
def process(code: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and its first line of output."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        try:
            yield started, started.stdout.readline()
        finally:
            started.kill()


def test_cpu_seconds_include_child_processes_that_run_and_that_have_ended():
    with process(FAMILY) as (started, _):
        stack = FakeStack({"ingress": [SimpleNamespace(pid=started.pid, exit_code=None)]})
        used = Processes(stack).read()
    # At least the parent's and that of the child that has ended; Python's own start comes on top.
    assert used["cpu_seconds.ingress"] >= 0.55
    assert (used["desired.ingress"], used["ready.ingress"]) == (1, 1)
    assert used["cpu_seconds.loadtest"] > 0


def test_a_replica_that_ended_is_not_ready_and_the_counter_does_not_decrease():
    with process(BUSY.format(seconds=0.2) + "print(flush=True); time.sleep(60)") as (started, _):
        child = SimpleNamespace(pid=started.pid, exit_code=None)
        processes = Processes(FakeStack({"encoder": [child]}))
        before = processes.read()
    child.exit_code = -9
    after = processes.read()
    assert before["ready.encoder"] == 1
    assert (after["desired.encoder"], after["ready.encoder"]) == (1, 0)
    assert after["cpu_seconds.encoder"] >= before["cpu_seconds.encoder"] > 0


def test_the_scaling_port_of_an_ingress_is_the_one_that_is_not_grpcs():
    with process(LISTENING.format(count=2)) as (started, output):
        own, scaling = output.split()
        ingress = SimpleNamespace(name="ingress-0", pid=started.pid, address=f"127.0.0.1:{own}")
        pages = scaling_pages(FakeStack({"ingress": [ingress]}))
    assert pages.name == f"http://127.0.0.1:{scaling}/scaling"


@pytest.mark.parametrize("count", [1, 3])
def test_an_ingress_without_a_single_such_port_is_named(count):
    with process(LISTENING.format(count=count)) as (started, output):
        ingress = SimpleNamespace(name="ingress-0", pid=started.pid, address=f"127.0.0.1:{output.split()[0]}")
        with pytest.raises(OSError, match="ingress-0"):
            scaling_pages(FakeStack({"ingress": [ingress]}))


def test_the_busy_share_of_the_machine_is_between_0_and_1():
    machine = Machine()
    with process(BUSY.format(seconds=0.2) + "print(flush=True)"):
        pass
    share = machine.read()["machine_cpu"]
    assert 0 < share <= 1
