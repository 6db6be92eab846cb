"""A service as a process of its own, with what is seen of it from outside."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.scraping import fetch, free_port, samples
from videoanalysis.channels import connect

ROOT = Path(__file__).parents[2]


@dataclass
class Service:
    process: asyncio.subprocess.Process
    address: str
    metrics_port: int
    log_file: Path

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of its samples with these labels."""
        read = samples(await asyncio.to_thread(fetch, self.metrics_port, "/metrics"))
        return sum(value for (found, has), value in read.items() if found == name and labels.items() <= set(has))

    async def metric_reaches(self, value: float, name: str, **labels: str) -> None:
        """Wait until it does; raises TimeoutError after some seconds."""
        for _ in range(400):
            if await self.metric(name, **labels) >= value:
                return
            await asyncio.sleep(0.02)
        raise TimeoutError

    def peak_memory_bytes(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10


@asynccontextmanager
async def service(module: str, directory: Path, **settings: object) -> AsyncIterator[Service]:
    """`python -m MODULE` with these settings, once it is ready."""
    prefix = module.rpartition(".")[2].upper()
    address_file, metrics_port = directory / f"{prefix}.address", free_port()
    chosen = {
        "host": "127.0.0.1",
        "port": 0,
        "address_file": address_file,
        "metrics_port": metrics_port,
        "log_format": "json",
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
    environment = {
        f"{prefix}_{name.upper()}": json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in chosen.items()
    }
    log_file = directory / f"{prefix}.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module),
            cwd=ROOT,
            env=inherited | environment | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(60):
            while not address_file.exists():
                assert process.returncode is None, log_file.read_text()
                await asyncio.sleep(0.02)
            started = Service(process, address_file.read_text(), metrics_port, log_file)
            async with connect(started.address) as channel:
                await until_ready(channel)
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_ready(channel: grpc.aio.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="readiness")
    async for answer in health_pb2_grpc.HealthStub(channel).Watch(request, timeout=60):
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return
