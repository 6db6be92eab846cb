"""The programs of docs/other-languages.md, built and run: with a service that fails on the way, and with real ones."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from tests.system import system
from videoanalysis.calls import CallInterceptor
from videoanalysis.client import AsyncClient
from videoanalysis.errors import FailedPrecondition, Overloaded, ServiceError, Unavailable
from videoanalysis.v1 import analysis_pb2_grpc
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult, Scene, StreamAnalyzeVideoResponse
from videoanalysis.v1.decoder_pb2 import TagScore
from videoanalysis.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
PAGE = (ROOT / "docs" / "other-languages.md").read_text()
GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
# Those of the releases in go/go.mod.
GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.6",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1",
)
BUILD_SECONDS = 300
SOON = 30


def source(language: str) -> str:
    """The one program in that language on the page."""
    (program,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return program


def build(folder: Path, *command: str, **variables: str) -> None:
    ended = subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=BUILD_SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def go(folder: Path) -> list[str]:
    if GO is None:
        pytest.skip("there is no Go")
    for plugin in GO_PLUGINS:
        build(folder, GO, "install", plugin, GOBIN=str(folder / "plugins"))
    names = [path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto")]
    outputs = [f"--{kind}{suffix}" for kind in ("go", "go-grpc") for suffix in ("_out=.", "_opt=paths=source_relative")]
    protoc = (sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, *names)
    build(folder, *protoc, PATH=f"{folder / 'plugins'}:{os.environ['PATH']}")
    (folder / "main.go").write_text(source("go"))
    build(folder, GO, "build", "-o", "analyze", ".")
    return [str(folder / "analyze")]


def node(folder: Path) -> list[str]:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node with npm")
    build(folder, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    (folder / "analyze.js").write_text(source("js"))
    return ["node", str(folder / "analyze.js")]


def java(folder: Path) -> list[str]:
    if not os.environ.get("POLYGLOT_JAVA"):
        pytest.skip("Java is tested by `make polyglot` alone: Maven downloads for minutes")
    sources = folder / "src" / "main" / "java"
    sources.mkdir(parents=True)
    (sources / "Analyze.java").write_text(source("java"))
    build(folder, "mvn", "-q", "-B", f"-Dprotos={PROTOS}", "package")
    return ["java", "-cp", f"{folder / 'target' / 'analyze-1.jar'}:{folder / 'target' / 'jars'}/*", "Analyze"]


@pytest.fixture(scope="module", params=[go, node, java], ids=lambda language: language.__name__)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the program in one language."""
    folder = tmp_path_factory.mktemp("program") / request.param.__name__
    shutil.copytree(Path(__file__).parent / request.param.__name__, folder)
    return request.param(folder)


async def run(program: list[str], address: str, video: str) -> tuple[int, list[str], str]:
    """Exit code, lines of stdout, and stderr."""
    arguments = (address, video, str(PROTOS / "service_config.json"), str(PROTOS))
    process = await asyncio.create_subprocess_exec(
        *program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), SOON)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, out.decode().splitlines(), err.decode()


Event = StreamAnalyzeVideoResponse


@dataclass
class Service(analysis_pb2_grpc.VideoAnalysisServiceServicer):
    """Does `calls` one after the other: events, then an error if there is one."""

    calls: Sequence[tuple[Sequence[Event], ServiceError | None]]
    tokens: list[bytes] = field(default_factory=list)

    async def StreamAnalyzeVideo(self, request, context):
        events, error = self.calls[len(self.tokens)]
        self.tokens.append(request.resume_token)
        for event in events:
            yield event
        if error is not None:
            raise error


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    analysis_pb2_grpc.add_VideoAnalysisServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def chunk(index: int, token: bytes) -> Event:
    return Event(chunk=ChunkResult(chunk_index=index), finished_scenes=[Scene(start_seconds=index)], resume_token=token)


SUMMARY = Event(
    summary=AnalyzeVideoResponse(tags=[TagScore(text="a beach", probability=0.75)], scenes=[Scene(start_seconds=9)])
)


async def test_an_analysis_survives_refusals_and_lost_replicas(program):
    service = Service(
        [
            ([], Overloaded("full", retry_after_seconds=0.1)),
            ([chunk(0, b"one")], Unavailable("draining")),
            ([chunk(1, b"two"), SUMMARY], None),
        ]
    )
    async with serving(service) as address:
        code, printed, messages = await run(program, address, "s3://bucket/holiday.mp4")
    assert (code, printed) == (0, ["2 chunks, 3 scenes", "a beach 0.75"]), messages
    assert service.tokens == [b"", b"", b"one"]


async def test_an_analysis_whose_token_is_refused_restarts(program):
    changed = FailedPrecondition("another model", reason=ErrorReason.MODEL_CHANGED)
    service = Service(
        [([chunk(0, b"one")], Unavailable("draining")), ([], changed), ([chunk(0, b"new"), SUMMARY], None)]
    )
    async with serving(service) as address:
        code, printed, messages = await run(program, address, "s3://bucket/holiday.mp4")
    assert (code, printed) == (0, ["1 chunks, 2 scenes", "a beach 0.75"]), messages
    assert service.tokens == [b"", b"one", b""]


async def test_real_services_answer_as_they_answer_the_python_client(program, tmp_path):
    async with system(tmp_path) as running:
        async with AsyncClient(running.address) as client:
            expected = await client.analyze("sample://clip")
        code, printed, messages = await run(program, running.address, "sample://clip")
        refused, _, explanation = await run(program, running.address, "ftp://bucket/holiday.mp4")
    tags = [f"{tag.text} {tag.probability:.2f}" for tag in expected.tags]
    assert (code, printed) == (0, [f"{len(expected.chunks)} chunks, {len(expected.scenes)} scenes", *tags]), messages
    assert refused == 1
    assert "video_uri" in explanation
