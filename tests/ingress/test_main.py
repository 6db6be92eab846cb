"""`python -m services.ingress` as operators run it: a process, signals, exit codes, and what is left."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from services.decoder.text_bank_location import Directory
from services.decoder.text_bank_store import TextBankStore
from services.ingress.__main__ import check_sandbox
from tests.processes import descendants, runs
from tests.rendering import calm_picture, render, steady
from tests.system import IMAGE_SIZE, TEXTS, Engine, decoder, encoder
from videoanalysis.channels import connect
from videoanalysis.errors import Unavailable
from videoanalysis.status import from_rpc_error
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "services.ingress"]
SECONDS = 6


@dataclass
class Running:
    process: asyncio.subprocess.Process
    stub: VideoAnalysisServiceStub
    engine: Engine
    scratch: Path

    def children(self) -> set[int]:
        return descendants(self.process.pid)

    def request(self) -> AnalyzeVideoRequest:
        return AnalyzeVideoRequest(video_uri=f"file://{self.scratch.parent}/clip.mp4", chunk_duration_seconds=1)


def environment(**settings: object) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INGRESS_")}
    encoded = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return inherited | {f"INGRESS_{name.upper()}": value for name, value in encoded.items()}


@asynccontextmanager
async def running(directory: Path, **settings: object) -> AsyncIterator[Running]:
    """The process, ready, with an encoder and a decoder of this process behind it."""
    render(directory / "clip.mp4", steady(10, SECONDS), draw=calm_picture)
    banks, scratch, address_file = directory / "banks", directory / "scratch", directory / "address"
    banks.mkdir()
    scratch.mkdir()
    engine = Engine()
    async with AsyncExitStack() as stack:
        encoding = await stack.enter_async_context(encoder(engine))
        async with connect(encoding.address) as channel:
            bank = await bank_builder.build(TEXTS, name="default", encoder=channel)
        (banks / "default.safetensors").write_bytes(bank.to_bytes())
        text_banks = TextBankStore(Directory(banks), 1 << 28)
        await text_banks.refresh()
        decoding = await stack.enter_async_context(decoder(text_banks))
        chosen = {
            "host": "127.0.0.1",
            "port": 0,
            "address_file": str(address_file),
            "encoders": [encoding.address],
            "decoders": [decoding.address],
            "image_size": IMAGE_SIZE,
            "max_videos": 1,
            "allowed_file_roots": [str(directory)],
            "scratch_dir": str(scratch),
            **settings,
        }
        process = await asyncio.create_subprocess_exec(*COMMAND, cwd=ROOT, env=environment(**chosen))
        try:
            async with asyncio.timeout(20):
                while not address_file.exists():
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
            async with connect(address_file.read_text()) as channel:
                yield Running(process, VideoAnalysisServiceStub(channel), engine, scratch)
        finally:
            engine.release.set()
            if process.returncode is None:
                process.kill()
            await process.wait()


async def until_dead(pids: set[int]) -> None:
    for _ in range(500):
        if not any(runs(pid) for pid in pids):
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def test_sigterm_lets_the_video_in_progress_finish_refuses_new_ones_and_leaves_nothing(tmp_path):
    async with running(tmp_path) as ingress:
        ingress.engine.release.clear()
        call = ingress.stub.AnalyzeVideo(ingress.request(), timeout=60)
        await asyncio.to_thread(ingress.engine.started.wait, 10)
        children = ingress.children()
        assert children

        ingress.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ingress.stub.AnalyzeVideo(ingress.request(), timeout=60)
        assert isinstance(from_rpc_error(caught.value), Unavailable)

        ingress.engine.release.set()
        assert len((await call).chunks) == SECONDS
        assert await asyncio.wait_for(ingress.process.wait(), 20) == 0
        await until_dead(children)
        assert list(ingress.scratch.iterdir()) == []


async def test_the_process_ends_after_the_grace_period_whatever_is_in_progress(tmp_path):
    async with running(tmp_path, grace_seconds=0.2) as ingress:
        ingress.engine.release.clear()
        call = ingress.stub.AnalyzeVideo(ingress.request(), timeout=60)
        await asyncio.to_thread(ingress.engine.started.wait, 10)
        children = ingress.children()
        ingress.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert await asyncio.wait_for(ingress.process.wait(), 20) == 0
        await until_dead(children)


async def test_sampling_processes_do_not_outlive_a_killed_ingress(tmp_path):
    async with running(tmp_path) as ingress:
        ingress.engine.release.clear()
        call = ingress.stub.AnalyzeVideo(ingress.request(), timeout=60)
        await asyncio.to_thread(ingress.engine.started.wait, 10)
        children = ingress.children()
        assert children
        ingress.process.kill()
        await ingress.process.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await until_dead(children)
        assert list(ingress.scratch.iterdir()) == []


def test_missing_and_invalid_settings_are_listed_one_a_line_and_exit_with_2():
    done = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment(decoders="dns://decoder", max_videos=0, frame_budget_bytes="many"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    variables = sorted(line.split("=")[0].split(":")[0] for line in done.stderr.splitlines())
    assert variables == ["INGRESS_DECODERS", "INGRESS_ENCODERS", "INGRESS_FRAME_BUDGET_BYTES", "INGRESS_MAX_VIDEOS"]


@pytest.mark.parametrize(
    ("setting", "others", "says"),
    [
        ("tokens_file", {}, "line 1 is not of the form"),
        ("policy_file", {"caller_header": "x-caller-id"}, "the file: "),
        ("jwt_keys", {"jwt_issuer": "i", "jwt_audience": "a"}, "not a JSON Web Key Set"),
        ("upstream_tls_ca", {}, "no PEM certificate"),
    ],
)
def test_a_file_that_cannot_be_used_ends_the_process_with_a_line_that_names_the_setting(
    tmp_path, setting, others, says
):
    file = tmp_path / "file"
    file.write_text("not what it should be")
    done = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment(
            port=0, encoders=["127.0.0.1:1"], decoders=["127.0.0.1:1"], max_videos=1, **{setting: str(file), **others}
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"INGRESS_{setting.upper()}: {file}"), done.stderr
    assert says in last
    assert "Traceback" not in done.stderr


def test_a_required_sandbox_that_is_incomplete_ends_the_process():
    check_sandbox(frozenset({"seccomp"}), required=False)
    check_sandbox(frozenset({"seccomp", "landlock"}), required=True)
    with pytest.raises(SystemExit, match="the kernel or container does not allow landlock"):
        check_sandbox(frozenset({"seccomp"}), required=True)
