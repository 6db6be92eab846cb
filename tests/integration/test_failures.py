"""What callers see when processes die, hang, become slow or change, and storage fails: real processes on loopback."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from tests import processes
from tests.integration.faulty_s3 import Fault, FaultyS3, faulty_s3
from tests.integration.load import Calls, connect, load
from tests.rendering import calm_picture, render, steady
from videoanalysis.stack.child_process import ChildProcess
from videoanalysis.stack.service_environment import Kind
from videoanalysis.stack.stack import Stack
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub
from videoanalysis.v1.error_reason_pb2 import ErrorReason

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE_MS = 20
FOUND_SECONDS = 2.5
CHUNKS = 4
SYNTHETIC = {"synthetic_image_size": 32, "synthetic_embedding_dim": 64, "synthetic_service_ms": SERVICE_MS}
SETTINGS: dict[Kind, dict[str, object]] = {
    "ingress": {"drain_delay_seconds": 0.3, "grace_seconds": 20},
    "encoder": SYNTHETIC,
    "decoder": {"drain_delay_seconds": 0.3},
}


@dataclass
class System:
    stack: Stack
    s3: FaultyS3
    request: AnalyzeVideoRequest

    @property
    def ingresses(self) -> list[ChildProcess]:
        return self.stack.services["ingress"]

    @property
    def encoders(self) -> list[ChildProcess]:
        return self.stack.services["encoder"]

    @property
    def decoders(self) -> list[ChildProcess]:
        return self.stack.services["decoder"]

    def load(self, **options: object):
        return load([ingress.address for ingress in self.ingresses], self.request, **options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    render(clip, steady(10, CHUNKS), draw=calm_picture)
    port = free_port()
    settings = {**SETTINGS, "ingress": {**SETTINGS["ingress"], "s3_endpoint_url": f"http://127.0.0.1:{port}"}}
    wanted = Stack(engine="synthetic", ingresses=2, encoders=3, decoders=2, settings=settings)
    async with faulty_s3(port) as s3, wanted as stack:
        s3.upstream = stack.s3_endpoint
        uri = await stack.upload(clip)
        yield System(stack, s3, AnalyzeVideoRequest(video_uri=uri, chunk_duration_seconds=1, frames_per_chunk=4))


@asynccontextmanager
async def calls_that_all_succeed(running: System) -> AsyncIterator[Calls]:
    """Load, before, during and after what is done in the context; every call must succeed, and whole."""
    async with running.load() as calls:
        await calls.more(8)
        yield calls
        await calls.more(8)
    assert calls.failures == []
    assert {len(answer.chunks) for answer in calls.answers} == {CHUNKS}


async def test_an_encoder_that_is_killed_costs_no_call_nor_does_its_return(running: System):
    async with calls_that_all_succeed(running) as calls:
        running.encoders[0].kill()
        await calls.more(12)
        await running.stack.restart(running.encoders[0])


async def test_an_encoder_that_hangs_costs_no_call(running: System):
    async with calls_that_all_succeed(running) as calls:
        running.encoders[1].suspend()
        await calls.more(40)
        running.encoders[1].resume()


async def test_an_encoder_ten_times_slower_costs_no_call(running: System):
    await running.stack.restart(running.encoders[2], synthetic_service_ms=10 * SERVICE_MS)
    async with calls_that_all_succeed(running) as calls:
        await calls.more(20)
    await running.stack.restart(running.encoders[2], synthetic_service_ms=SERVICE_MS)


async def test_a_decoder_that_is_killed_and_one_that_hangs_cost_no_call(running: System):
    first, second = running.decoders
    async with calls_that_all_succeed(running) as calls:
        first.kill()
        await calls.more(12)
        await running.stack.restart(first)
        await asyncio.sleep(1.5)  # Until it has the bank.
        second.suspend()
        await calls.more(40)
        second.resume()


async def test_with_only_one_encoder_left_all_is_done_by_that(running: System):
    async with calls_that_all_succeed(running) as calls:
        running.encoders[0].kill()
        running.encoders[1].suspend()
        await calls.more(12)
        running.encoders[1].resume()
        await running.stack.restart(running.encoders[0])


async def test_a_new_bank_under_the_same_name_costs_no_call(running: System):
    async with calls_that_all_succeed(running) as calls:
        await running.stack.provide_bank()
        await calls.more(8)


async def test_encoders_that_come_back_with_another_model_cost_no_call_and_no_video_mixes_models(running: System):
    async with calls_that_all_succeed(running) as calls:
        old = calls.answers[-1].model.digest
        await running.stack.restart(running.encoders[0], synthetic_embedding_dim=48)
        await running.stack.provide_bank(running.encoders[0])
        for encoder in running.encoders[1:]:
            await running.stack.restart(encoder, synthetic_embedding_dim=48)
        await calls.more(8)
        assert calls.answers[-1].model.digest != old
        assert calls.answers[-1].model.embedding_dim == 48
    assert {(answer.model.embedding_dim, answer.text_bank.model_digest) for answer in calls.answers} == {
        (answer.model.embedding_dim, answer.model.digest) for answer in calls.answers
    }


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
async def test_storage_that_fails_for_a_moment_costs_no_call(running: System, fault: Fault):
    async with calls_that_all_succeed(running) as calls:
        running.s3.faults.extend([fault] * 2)
        await calls.more(12)
    assert running.s3.committed[-2:] == [fault] * 2
    assert not running.s3.faults


async def test_storage_that_is_down_makes_the_service_unavailable_and_its_return_mends_it(running: System):
    async with connect([running.ingresses[0].address]) as channel:
        running.s3.faults.extend([Fault.ERROR_500] * 100)
        stub = VideoAnalysisServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            await stub.AnalyzeVideo(running.request, timeout=60)
        assert from_rpc_error(caught.value).reason == ErrorReason.STORAGE_UNAVAILABLE
        running.s3.faults.clear()
        assert len((await stub.AnalyzeVideo(running.request, timeout=60)).chunks) == CHUNKS


async def test_a_sampling_process_that_is_killed_costs_no_call(running: System):
    async with calls_that_all_succeed(running) as calls:
        for ingress in running.ingresses:
            for worker in list(processes.descendants(ingress.pid))[:2]:
                os.kill(worker, signal.SIGKILL)
        await calls.more(12)


async def test_an_ingress_that_terminates_under_load_finishes_its_videos_and_no_call_fails(running: System):
    leaving = running.ingresses[0]
    async with calls_that_all_succeed(running) as calls:
        leaving.terminate()
        assert await asyncio.wait_for(leaving.wait(), 30) == 0
        await calls.more(12)
        await running.stack.restart(leaving)


async def test_every_replica_of_every_service_is_replaced_under_load_and_no_call_fails(running: System):
    async with calls_that_all_succeed(running) as calls:
        for kind in ("decoder", "encoder", "ingress"):
            for child in running.stack.services[kind]:
                child.terminate()
                assert await asyncio.wait_for(child.wait(), 30) == 0
                await running.stack.restart(child)
                # As a Deployment's minReadySeconds: callers need a moment to find the new one before the next goes.
                await asyncio.sleep(FOUND_SECONDS)
                await calls.more(4)


async def test_a_full_scratch_disk_is_reported_as_overload_and_a_free_one_serves(tmp_path: Path, running: System):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk))
    if await mounted.wait():
        pytest.skip("this machine lets us mount no small disk")
    ingress = running.ingresses[0]
    try:
        await running.stack.restart(ingress, scratch_dir=disk)
        with (disk / "full").open("wb", buffering=0) as full, suppress(OSError):
            while True:
                full.write(bytes(1024))
        async with connect([ingress.address]) as channel:
            stub = VideoAnalysisServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                await stub.AnalyzeVideo(running.request, timeout=60)
            failure = from_rpc_error(caught.value)
            assert (caught.value.code(), failure.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                ErrorReason.SCRATCH_FULL,
            )
            assert failure.retry_after_seconds > 0
            (disk / "full").unlink()
            assert len((await stub.AnalyzeVideo(running.request, timeout=60)).chunks) == CHUNKS
    finally:
        ingress.kill()
        unmounted = await asyncio.create_subprocess_exec("umount", "--lazy", str(disk))
        await unmounted.wait()
        await running.stack.restart(ingress, scratch_dir="")
