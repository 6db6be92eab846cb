"""The service as a process."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.decoder.samples import OTHER_MODEL, make_bank
from tests.decoder.test_servicer import chunk, ranking
from videoanalysis.atomic_write import write_atomically
from videoanalysis.channels import connect
from videoanalysis.errors import Unavailable
from videoanalysis.status import from_rpc_error
from videoanalysis.storage import S3Uri
from videoanalysis.v1 import decoder_pb2_grpc
from videoanalysis.v1.decoder_pb2 import ListTextBanksRequest

COMMAND = [sys.executable, "-m", "services.decoder"]
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def decoder(tmp_path, **environment: str):
    """The process, and a channel to it once it listens."""
    address_file = tmp_path / "address"
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        cwd=ROOT,
        env=os.environ
        | {
            "DECODER_HOST": "127.0.0.1",
            "DECODER_PORT": "0",
            "DECODER_ADDRESS_FILE": str(address_file),
            "DECODER_BANKS_REFRESH_SECONDS": "0.1",
        }
        | environment,
    )
    try:
        async with asyncio.timeout(20):
            while not address_file.exists():
                assert process.returncode is None
                await asyncio.sleep(0.02)
        async with connect(address_file.read_text()) as channel:
            yield process, channel
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_ready(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(20):
        watch = health.Watch(health_pb2.HealthCheckRequest(service="readiness"))
        async for update in watch:
            if update.status == health_pb2.HealthCheckResponse.SERVING:
                # An open stream would hold up the server's drain.
                watch.cancel()
                return


async def until_served(stub):
    async with asyncio.timeout(20):
        while True:
            try:
                return await stub.DecodeChunk(chunk())
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


async def until_listed(stub, digest: str) -> None:
    async with asyncio.timeout(20):
        while True:
            listed = await stub.ListTextBanks(ListTextBanksRequest())
            if digest in {bank.digest for bank in listed.text_banks}:
                return
            await asyncio.sleep(0.05)


async def test_ready_without_a_bank_serves_one_that_appears_and_leaves_on_sigterm(tmp_path):
    banks = tmp_path / "banks"
    banks.mkdir()
    async with decoder(tmp_path, DECODER_BANKS=str(banks)) as (process, channel):
        await until_ready(channel)
        stub = decoder_pb2_grpc.DecoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.DecodeChunk(chunk())
        assert isinstance(from_rpc_error(caught.value), Unavailable)
        (banks / "default.safetensors").write_bytes(make_bank().to_bytes())
        assert (await until_served(stub)).text_bank.digest == make_bank().digest
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_replica_that_becomes_ready_has_the_banks_that_were_there(tmp_path):
    (tmp_path / "default.safetensors").write_bytes(make_bank().to_bytes())
    async with decoder(tmp_path, DECODER_BANKS=str(tmp_path)) as (_, channel):
        await until_ready(channel)
        response = await decoder_pb2_grpc.DecoderServiceStub(channel).DecodeChunk(chunk())
        assert response.text_bank.digest == make_bank().digest


async def test_ready_before_its_bucket_exists_and_serves_once_it_does(tmp_path, s3_endpoint, storage, bucket):
    later = f"{bucket}-later"
    async with decoder(tmp_path, DECODER_BANKS=f"s3://{later}/textbanks/", DECODER_S3_ENDPOINT_URL=s3_endpoint) as (
        _,
        channel,
    ):
        await until_ready(channel)
        await storage.create_bucket(later)
        uri = S3Uri(later, "textbanks/default.safetensors")
        await storage.write(uri, make_bank().to_bytes(), "application/octet-stream")
        await until_served(decoder_pb2_grpc.DecoderServiceStub(channel))


async def test_banks_of_several_names_and_models_are_served_side_by_side_and_follow_their_files(tmp_path):
    files = {
        "default": make_bank(),
        "default-of-another-model": make_bank(seed=3, model_digest=OTHER_MODEL),
        "sport": make_bank(seed=5, name="sport", tags=("golf", "judo", "chess")),
    }
    for name, bank in files.items():
        write_atomically(tmp_path / f"{name}.safetensors", bank.to_bytes())
    async with decoder(tmp_path, DECODER_BANKS=str(tmp_path)) as (_, channel):
        await until_ready(channel)
        stub = decoder_pb2_grpc.DecoderServiceStub(channel)

        async def served(**selection: str) -> str:
            return (await stub.DecodeChunk(chunk(ranking=ranking(**selection)))).text_bank.digest

        assert await served() == files["default"].digest
        assert await served(model_digest=OTHER_MODEL) == files["default-of-another-model"].digest
        assert await served(text_bank="sport") == files["sport"].digest

        changed = make_bank(seed=7, name="sport")
        write_atomically(tmp_path / "sport.safetensors", changed.to_bytes())
        await until_listed(stub, changed.digest)
        assert await served(text_bank="sport") == changed.digest

        write_atomically(tmp_path / "sport.safetensors", b"no bank")
        # Each is served by a look at the directory that began after the file before it was there.
        for seed in (9, 11):
            later = make_bank(seed=seed, name="later")
            write_atomically(tmp_path / "later.safetensors", later.to_bytes())
            await until_listed(stub, later.digest)
        assert await served(text_bank="sport") == changed.digest
        assert await served() == files["default"].digest
        assert await served(model_digest=OTHER_MODEL) == files["default-of-another-model"].digest


def test_bad_settings_are_named_one_a_line():
    environment = os.environ | {"DECODER_PORT": "many", "DECODER_BANKS": "s3://"}
    ended = subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    lines = sorted(ended.stderr.splitlines())
    assert [line.split(":")[0] for line in lines] == ["DECODER_BANKS", "DECODER_PORT"]
    assert "s3://bucket/prefix/" in lines[0]
