"""Real encoders on loopback, a process each, with the synthetic engine, whose service time is a setting."""

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

from videoanalysis.stack import source_tree
from videoanalysis.stack.child_process import ChildProcess

# Small pictures: what is measured is placement, not copying.
IMAGE_SIZE, FRAMES = 16, 16
_START_SECONDS = 60


class Fleet:
    """Runs while it is entered; `service_ms` has one entry per encoder."""

    def __init__(self, service_ms: Sequence[float]) -> None:
        self._service_ms = service_ms
        self._children: list[ChildProcess] = []
        self._directory = tempfile.TemporaryDirectory()

    @property
    def addresses(self) -> list[str]:
        return [child.address for child in self._children]

    async def __aenter__(self) -> Self:
        directory = Path(self._directory.name)
        try:
            for number, service_ms in enumerate(self._service_ms):
                environment = os.environ | {
                    "ENCODER_HOST": "127.0.0.1",
                    "ENCODER_PORT": "0",
                    "ENCODER_ADDRESS_FILE": str(directory / f"{number}.address"),
                    "ENCODER_LOG_LEVEL": "warning",
                    "ENCODER_ENGINE": "synthetic",
                    "ENCODER_SYNTHETIC_IMAGE_SIZE": str(IMAGE_SIZE),
                    "ENCODER_SYNTHETIC_SERVICE_MS": str(service_ms),
                }
                module = ["services.encoder"]
                child = ChildProcess(
                    str(number), module, directory=directory, cwd=source_tree.ROOT, environment=environment
                )
                self._children.append(child)
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.gather(*(self._until_listening(directory, child) for child in self._children))
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()

    def cpu_seconds(self) -> float:
        """User and system time of the encoders so far."""
        times = [psutil.Process(child.pid).cpu_times() for child in self._children]
        return float(sum(time.user + time.system for time in times))

    @staticmethod
    async def _until_listening(directory: Path, child: ChildProcess) -> None:
        while not child.address:
            if child.exit_code is not None:
                raise RuntimeError(child.report())
            await asyncio.sleep(0.05)
            with suppress(FileNotFoundError):
                child.address = (directory / f"{child.name}.address").read_text()

    def _stop(self) -> None:
        for child in self._children:
            child.kill()
        self._directory.cleanup()


class Cpu:
    """CPU time since the beginning as shares of all cores: of this process with a fleet, and of all other processes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._cores = psutil.cpu_count() or 1
        self._at, self._ours, self._all = self._read()

    def shares(self) -> tuple[float, float]:
        """Of all cores: ours, theirs."""
        at, ours, total = self._read()
        wall = (at - self._at) * self._cores
        share = (ours - self._ours) / wall
        return share, max(0.0, (total - self._all) / wall - share)

    def _read(self) -> tuple[float, float, float]:
        own, machine = time.process_time(), psutil.cpu_times()
        busy = machine.user + machine.nice + machine.system + machine.softirq
        return time.perf_counter(), own + self._fleet.cpu_seconds(), busy
