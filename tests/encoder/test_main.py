"""`python -m services.encoder` as operators run it: a process, signals, exit codes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from videoanalysis import tensors
from videoanalysis.channels import connect
from videoanalysis.v1.encoder_pb2 import PIXEL_FORMAT_RGB24, ChunkHeader, EncodeChunkRequest, GetModelRequest
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "services.encoder"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "videoanalysis.v1.EncoderService"


def environment(**settings: object) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENCODER_")}
    return inherited | {f"ENCODER_{name.upper()}": str(value) for name, value in settings.items()}


def run_to_its_end(**settings: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        COMMAND, cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def encoder_process(directory: Path, **settings: object) -> Iterator[tuple[subprocess.Popen, Path]]:
    """The process, and the file that will hold its address."""
    address_file = directory / "address"
    wanted = environment(host="127.0.0.1", port=0, address_file=address_file, torch_threads=1, **settings)
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(COMMAND, cwd=ROOT, env=wanted, stderr=log)
        try:
            yield process, address_file
        finally:
            process.kill()
            process.wait()


async def ready(process: subprocess.Popen, address_file: Path) -> grpc.aio.Channel:
    """A channel to the encoder once it calls itself ready."""
    channel = connect(await asyncio.to_thread(address, process, address_file))
    for name in ("readiness", SERVICE):
        await until_health(channel, name, SERVING)
    return channel


def address(process: subprocess.Popen, address_file: Path) -> str:
    """What the process wrote to `address_file` once it listened."""
    while not address_file.exists():
        assert process.poll() is None, address_file.with_name("log").read_text()
        time.sleep(0.05)
    return address_file.read_text()


async def until_health(channel: grpc.aio.Channel, name: str, wanted: int) -> None:
    for _ in range(500):
        if await health(channel, name) == wanted:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def health(channel: grpc.aio.Channel, name: str) -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)).status


def mapped_files(process: subprocess.Popen) -> str:
    return Path(f"/proc/{process.pid}/maps").read_text()


async def exit_code(process: subprocess.Popen) -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.wait), 30)


async def test_serves_a_checkpoint_and_finishes_the_chunk_in_flight_at_sigterm(
    siglip_engine, checkpoint_directory, tmp_path
):
    with encoder_process(tmp_path, model=checkpoint_directory, precision="float32", drain_delay_seconds=0.3) as started:
        process, address_file = started
        async with await ready(process, address_file) as channel:
            stub = EncoderServiceStub(channel)
            model = (await stub.GetModel(GetModelRequest(), timeout=10)).model
            assert model.digest == siglip_engine.model.digest
            # What tokenizes is imported for the first texts: it would take longer than the rest of the start.
            assert "libtorch" in mapped_files(process)
            assert "sentencepiece" not in mapped_files(process)
            size = model.image_size
            frames = np.random.default_rng(5).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
            header = ChunkHeader(
                frames=16, height=size, width=size, pixel_format=PIXEL_FORMAT_RGB24, model_digest=model.digest
            )
            call = stub.EncodeChunk(timeout=20)
            await call.write(EncodeChunkRequest(header=header))
            assert (await call.read()).HasField("admitted")

            process.send_signal(signal.SIGTERM)
            await until_health(channel, "readiness", NOT_SERVING)
            assert await health(channel, "liveness") == SERVING
            await asyncio.sleep(0.4)  # Past the drain delay: new calls are refused from here on.
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await stub.GetModel(GetModelRequest(), timeout=5)
            assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE

            await call.write(EncodeChunkRequest(piece=frames.tobytes()))
            await call.done_writing()
            result = (await call.read()).result
            wanted = siglip_engine.encode(frames).embeddings
            assert np.abs(tensors.from_proto(result.embeddings) - wanted).max() < 1e-4
            assert 0 < result.compute.ToNanoseconds() < 20e9
        assert await exit_code(process) == 0


async def test_the_stand_in_serves_without_torch(tmp_path):
    with encoder_process(tmp_path, engine="synthetic", synthetic_image_size=32) as (process, address_file):
        async with await ready(process, address_file) as channel:
            model = (await EncoderServiceStub(channel).GetModel(GetModelRequest(), timeout=10)).model
            assert (model.engine, model.image_size) == ("synthetic", 32)
            assert "torch" not in mapped_files(process)
        process.send_signal(signal.SIGTERM)
        assert await exit_code(process) == 0


def test_invalid_settings_are_reported_one_a_line_and_exit_with_2():
    done = run_to_its_end(max_in_flight=0, device="tpu", port=50052)
    assert done.returncode == 2
    first, second = sorted(done.stderr.splitlines())
    assert first.startswith("ENCODER_DEVICE: ")
    assert second.startswith("ENCODER_MAX_IN_FLIGHT: ")


def test_a_model_that_cannot_be_served_is_reported_in_one_sentence_and_exits_with_2(tmp_path):
    done = run_to_its_end(model=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"ENCODER_MODEL={tmp_path}: ")
    assert "Traceback" not in done.stderr


def test_a_start_imports_neither_transformers_nor_the_compiler_of_torch(checkpoint_directory):
    """Each would take as long as torch itself."""
    script = """
import sys
from services.encoder import __main__, settings
__main__.load_engine(settings.EncoderSettings())
print(sorted({"torch", "torch._dynamo", "transformers", "sympy"} & sys.modules.keys()))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(model=checkpoint_directory, device="cpu"),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert loaded.stdout == "['torch']\n"
