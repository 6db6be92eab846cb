"""One chunk of 16 frames to one encoder process: ours compared with a single message and with a bare handshake.

    python -m benchmarks.transport [--rounds 6] [--seconds 0.5] [--ways unary spike ours stand-in]

Each way has a caller and an encoder, a process each, on loopback: `unary` sends the chunk in one protobuf message;
`spike` is a handshake and eight protobuf pieces with nothing around them; `ours` is the ingress's dispatch and the
encoder, whose engine computes nothing; `stand-in` is ours with the synthetic engine at a service time of 0. Rounds of
all ways alternate. CPU is the user and system time of both processes.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]

from services.encoder import __main__ as encoder_main
from services.encoder.engine import Encoded
from services.encoder.synthetic import SyntheticEngine
from services.ingress.admission import ByteBudget, Deadline, Share
from services.ingress.dispatch import Encoders, Replicas, Static
from services.ingress.sampling import FrameBuffer
from videoanalysis import logs
from videoanalysis.allocator import keep_freed_memory
from videoanalysis.atomic_write import write_atomically
from videoanalysis.channels import connect
from videoanalysis.stack import source_tree
from videoanalysis.stack.child_process import ChildProcess
from videoanalysis.v1.encoder_pb2 import (
    PIXEL_FORMAT_RGB24,
    Admitted,
    ChunkEmbeddings,
    ChunkHeader,
    EncodeChunkRequest,
    EncodeChunkResponse,
)
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

FRAMES, SIZE, DIM = 16, 384, 1152
CHUNK_BYTES = FRAMES * SIZE * SIZE * 3
WAYS = ("unary", "spike", "ours", "stand-in")
IN_FLIGHT = (1, 2, 4)
_PERMITS, _PARKED = 2, 4
_REFUSALS = 100
_PIECE_BYTES = CHUNK_BYTES // 8
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_METHOD = "/benchmarks.Transport/Encode"
_REFUSED = "refuse"
_START_SECONDS = 60

Call = Callable[[], Awaitable[None]]


class IdleEngine(SyntheticEngine):
    """Returns embeddings without looking at the frames."""

    def encode(self, frames: np.ndarray) -> Encoded:
        return Encoded(np.full((len(frames), DIM), DIM**-0.5, np.float32), 1e-6)


async def serve_bare(way: str, address_file: Path) -> None:
    """A server with one method and nothing around it; it copies the frames into one buffer."""
    buffer = np.empty(CHUNK_BYTES, np.uint8)
    result = EncodeChunkResponse(result=ChunkEmbeddings())
    result.result.embeddings.data = bytes(FRAMES * DIM * 4)

    async def unary(request: EncodeChunkRequest, context: grpc.aio.ServicerContext) -> EncodeChunkResponse:
        if (_REFUSED, "1") in (context.invocation_metadata() or ()):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        buffer[:] = np.frombuffer(request.piece, np.uint8)
        return result

    async def handshake(
        requests: AsyncIterator[EncodeChunkRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[EncodeChunkResponse]:
        header = (await anext(requests)).header
        if header.chunk_key == _REFUSED:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        yield EncodeChunkResponse(admitted=Admitted())
        filled = 0
        async for request in requests:
            buffer[filled : filled + len(request.piece)] = np.frombuffer(request.piece, np.uint8)
            filled += len(request.piece)
        yield result

    parse, serialize = EncodeChunkRequest.FromString, EncodeChunkResponse.SerializeToString
    handler = (
        grpc.unary_unary_rpc_method_handler(unary, parse, serialize)
        if way == "unary"
        else grpc.stream_stream_rpc_method_handler(handshake, parse, serialize)
    )
    server = grpc.aio.server(options=_UNLIMITED)
    service, method = _METHOD.removeprefix("/").split("/")
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_atomically(address_file, f"127.0.0.1:{port}".encode())
    await server.wait_for_termination()


def serve_ours() -> None:
    """The encoder as it is, with another engine."""
    encoder_main.load_engine = lambda _: IdleEngine(image_size=SIZE, embedding_dim=DIM, service_ms=0)
    encoder_main.main()


@asynccontextmanager
async def bare_calls(way: str, address: str) -> AsyncIterator[tuple[Call, Call]]:
    """A call, and one that is refused."""
    frames = await FrameBuffer.allocate(CHUNK_BYTES, ByteBudget(CHUNK_BYTES))
    serialize, parse = EncodeChunkRequest.SerializeToString, EncodeChunkResponse.FromString
    async with grpc.aio.insecure_channel(address, options=_UNLIMITED) as channel:
        encode_unary = channel.unary_unary(_METHOD, serialize, parse)
        encode = channel.stream_stream(_METHOD, serialize, parse)

        async def unary(*metadata: tuple[str, str]) -> None:
            request = EncodeChunkRequest(piece=b"".join(frames.pieces(CHUNK_BYTES)))
            response = await encode_unary(request, metadata=metadata)
            assert len(response.result.embeddings.data) == FRAMES * DIM * 4

        async def handshake(chunk_key: str = "") -> None:
            call = encode()
            await call.write(EncodeChunkRequest(header=ChunkHeader(frames=FRAMES, chunk_key=chunk_key)))
            await call.read()
            for piece in frames.pieces(_PIECE_BYTES):
                await call.write(EncodeChunkRequest(piece=piece))
            await call.done_writing()
            response = await call.read()
            assert len(response.result.embeddings.data) == FRAMES * DIM * 4

        async def refused() -> None:
            await until_refused(unary((_REFUSED, "1")) if way == "unary" else handshake(_REFUSED))

        yield (unary if way == "unary" else handshake), refused
    frames.close()


@asynccontextmanager
async def our_calls(address: str) -> AsyncIterator[tuple[Call, Call]]:
    """A call, and one that is refused because the encoder has as many parked headers as it may have."""
    frames = await FrameBuffer.allocate(CHUNK_BYTES, ByteBudget(CHUNK_BYTES))
    async with AsyncExitStack() as stack:
        replicas = await stack.enter_async_context(
            Replicas("encoder", Static([address]), attempt_seconds=60, wait_seconds=30)
        )
        encoders = Encoders(replicas, SIZE)
        model = await encoders.model(Deadline.after(_START_SECONDS))

        async def call() -> None:
            await encoders.encode(frames, FRAMES, "benchmark", model, Deadline.after(60), Share("benchmark", 1))

        stub = EncoderServiceStub(await stack.enter_async_context(connect(address)))  # type: ignore[no-untyped-call]
        header = ChunkHeader(frames=FRAMES, height=SIZE, width=SIZE, pixel_format=PIXEL_FORMAT_RGB24)
        held: list[grpc.aio.StreamStreamCall] = []

        async def refused() -> None:
            while len(held) < _PERMITS + _PARKED:
                held.append(stub.EncodeChunk())
                await held[-1].write(EncodeChunkRequest(header=header))
                if len(held) <= _PERMITS or len(held) == _PERMITS + _PARKED:
                    await held[-1].read()  # admitted, or the first sign that it is parked
            refused_call = stub.EncodeChunk()
            await refused_call.write(EncodeChunkRequest(header=header))
            await until_refused(refused_call.read())

        yield call, refused
        for one in held:
            one.cancel()
    frames.close()


async def serve_calls(way: str, address: str) -> None:
    """Reads lines, {"in_flight": …, "seconds": …} or {"refusals": …}, and answers with calls and seconds of each."""
    calls = bare_calls(way, address) if way in ("unary", "spike") else our_calls(address)
    async with calls as (call, refused):
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            started = time.perf_counter()
            if "refusals" in order:
                await refused()
                times = [await timed(refused) for _ in range(order["refusals"])]
                print(json.dumps({"milliseconds": 1000 * median(times)}), flush=True)
                continue
            counts = await asyncio.gather(
                *(calls_until(started + order["seconds"], call) for _ in range(order["in_flight"]))
            )
            print(json.dumps({"calls": sum(counts), "seconds": time.perf_counter() - started}), flush=True)


async def until_refused(call: Awaitable[object]) -> None:
    try:
        await call
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
    else:
        raise RuntimeError("it was not refused")


async def timed(call: Call) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def calls_until(end: float, call: Call) -> int:
    count = 0
    while time.perf_counter() < end:
        await call()
        count += 1
    return count


class Pair:
    """The two processes of one way."""

    def __init__(self, way: str, directory: Path) -> None:
        self.way = way
        self._caller: subprocess.Popen[str] | None = None
        self._address_file = directory / f"{way}.address"
        module = ["benchmarks.transport", "--serve", way, str(self._address_file)]
        environment = os.environ | {
            "ENCODER_HOST": "127.0.0.1",
            "ENCODER_PORT": "0",
            "ENCODER_ADDRESS_FILE": str(self._address_file),
            "ENCODER_LOG_LEVEL": "warning",
            "ENCODER_ENGINE": "synthetic",
            "ENCODER_SYNTHETIC_SERVICE_MS": "0",
            "ENCODER_SYNTHETIC_EMBEDDING_DIM": str(DIM),
            "ENCODER_MAX_IN_FLIGHT": str(_PERMITS),
            "ENCODER_MAX_PARKED": str(_PARKED),
            # Those that hold a permit while others are refused do not upload.
            "ENCODER_PIECE_SECONDS": "60",
            "ENCODER_UPLOAD_SECONDS": "60",
        }
        self._server = ChildProcess(way, module, directory=directory, cwd=source_tree.ROOT, environment=environment)

    def connect(self) -> None:
        started = time.monotonic()
        while not self._address_file.exists() or not (address := self._address_file.read_text()):
            if self._server.exit_code is not None or time.monotonic() > started + _START_SECONDS:
                raise RuntimeError(self._server.report())
            time.sleep(0.05)
        command = [sys.executable, "-m", "benchmarks.transport", "--call", self.way, address]
        self._caller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **order: float) -> dict[str, float]:
        assert self._caller
        assert self._caller.stdin
        assert self._caller.stdout
        print(json.dumps(order), file=self._caller.stdin, flush=True)
        answer: dict[str, float] = json.loads(self._caller.stdout.readline())
        return answer

    def measure(self, in_flight: int, seconds: float) -> tuple[float, float, float]:
        """Per call, in milliseconds: time, CPU time of the caller, and of the encoder."""
        before = self._cpu_seconds()
        answer = self.ask(in_flight=in_flight, seconds=seconds)
        used = [after - start for after, start in zip(self._cpu_seconds(), before, strict=True)]
        caller, encoder = (1000 * cpu / answer["calls"] for cpu in used)
        return 1000 * answer["seconds"] / answer["calls"], caller, encoder

    def _cpu_seconds(self) -> list[float]:
        times = [psutil.Process(pid).cpu_times() for pid in self._pids]
        return [one.user + one.system for one in times]

    def peak_mebibytes(self) -> list[int]:
        """Resident memory of the caller and the encoder."""
        lines = [line for pid in self._pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return [int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM")]

    @property
    def _pids(self) -> tuple[int, int]:
        assert self._caller
        return self._caller.pid, self._server.pid

    def close(self) -> None:
        self._server.kill()
        if self._caller:
            self._caller.kill()
            self._caller.wait()


def compare(ways: list[str], rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        pairs = [Pair(way, Path(directory)) for way in ways]
        samples: dict[tuple[str, int], list[tuple[float, float, float]]] = defaultdict(list)
        try:
            for pair in pairs:
                pair.connect()
                pair.measure(1, seconds)
            for _ in range(rounds):
                for in_flight in IN_FLIGHT:
                    for pair in pairs:
                        samples[pair.way, in_flight].append(pair.measure(in_flight, seconds))
            report(ways, samples)
            print("\n| way | refusal, ms | peak MiB, caller | peak MiB, encoder |\n|---|---|---|---|")
            for pair in pairs:
                refusal = pair.ask(refusals=_REFUSALS)["milliseconds"]
                caller, encoder = pair.peak_mebibytes()
                print(f"| {pair.way} | {refusal:.2f} | {caller} | {encoder} |")
        finally:
            for pair in pairs:
                pair.close()


def report(ways: list[str], samples: dict[tuple[str, int], list[tuple[float, float, float]]]) -> None:
    """Medians of the rounds, and of the ratios within a round to the first way."""
    print("| in flight | way | ms | of unary | CPU ms, caller + encoder | of unary |")
    print("|---|---|---|---|---|---|")
    for in_flight in IN_FLIGHT:
        base = samples[ways[0], in_flight]
        for way in ways:
            own = samples[way, in_flight]
            wall, caller, encoder = (median(column) for column in zip(*own, strict=True))
            walls = median(one[0] / other[0] for one, other in zip(own, base, strict=True))
            cpus = median(sum(one[1:]) / sum(other[1:]) for one, other in zip(own, base, strict=True))
            print(f"| {in_flight} | {way} | {wall:.1f} | {walls:.2f} | {caller:.1f} + {encoder:.1f} | {cpus:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a round of one way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="compared with the first")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        way, address_file = options.serve
        if way in ("unary", "spike"):
            asyncio.run(serve_bare(way, Path(address_file)))
        elif way == "ours":
            serve_ours()
        else:
            encoder_main.main()
    elif options.call:
        logs.configure("warning", "json")
        if options.call[0] not in ("unary", "spike"):
            keep_freed_memory()
        asyncio.run(serve_calls(*options.call))
    else:
        compare(options.ways, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
