"""Seconds to the first chunk of an object that arrives, or is downloaded first: python -m benchmarks.ranged_reads

An S3-like server in a process of its own sends 20 MB/s in all and answers each request after 50 ms. The object has
200 MB, 200 s of 640 x 360 H.264, once with its index at the end and once at the start.
"""

import asyncio
import hashlib
import multiprocessing
import tempfile
import time
from contextlib import aclosing, suppress
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
from aiohttp import web

from services.ingress.admission import ByteBudget
from services.ingress.sampling.frame_buffer import FrameBuffer
from services.ingress.sampling.media import Media, WholeFile
from services.ingress.sampling.pool import SamplingPool
from services.ingress.sampling.sampled_video import SamplingSpec, WorkerLimits
from services.ingress.sources import Allowed, ScratchSpace, Sources
from videoanalysis.storage import S3Uri, Storage

BYTES_PER_SECOND, LATENCY_SECONDS = 20e6, 0.05
SECONDS, LOOP_SECONDS, RATE = 200, 2, 25
BYTES = 200e6
_SLICE_BYTES = 64 << 10
SPEC = SamplingSpec(frames_per_chunk=16, chunk_duration=Fraction(10), image_size=384)
LIMITS = WorkerLimits(
    memory_bytes=1 << 30,
    cpu_seconds=600,
    stall_seconds=120,
    max_pixels=8192 * 4320,
    max_video_seconds=3600,
    max_packets=100_000,
)


def render(path: Path, index_first: bool) -> None:
    """Two seconds of noise, encoded once and repeated."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "bf": "0"}
        stream.bit_rate = int(BYTES / SECONDS * 8)
        packets = []
        for i in range(LOOP_SECONDS * RATE):
            pixels = rng.integers(0, 255, (360, 640, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts = i
            packets += stream.encode(frame)
        packets += stream.encode(None)
        contents = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        for loop in range(SECONDS // LOOP_SECONDS):
            for content, pts, dts, is_keyframe in contents:
                packet = av.Packet(content)
                shift = loop * LOOP_SECONDS * RATE
                packet.stream, packet.time_base = stream, stream.codec_context.time_base
                packet.pts, packet.dts, packet.duration, packet.is_keyframe = pts + shift, dts + shift, 1, is_keyframe
                container.mux(packet)


def serve(folder: Path, connection: Connection) -> None:
    """Reports its port, and then at every request the bytes that it has sent so far."""
    asyncio.run(_serve(folder, connection))


async def _serve(folder: Path, connection: Connection) -> None:
    sent, free_at = 0, 0.0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent, free_at
        await asyncio.sleep(LATENCY_SECONDS)
        path = folder / request.path.rpartition("/")[2]
        size = path.stat().st_size
        headers = {"ETag": f'"{hashlib.md5(path.name.encode()).hexdigest()}"', "Accept-Ranges": "bytes"}
        start, end = 0, size - 1
        if "Range" in request.headers:
            start, end = (int(number) for number in request.headers["Range"].removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        headers["Content-Length"] = str(end - start + 1)
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
        await response.prepare(request)
        if request.method == "GET":
            with path.open("rb") as file, suppress(ConnectionResetError):  # the client has read enough
                file.seek(start)
                while start <= end:
                    piece = file.read(min(_SLICE_BYTES, end - start + 1))
                    free_at = max(free_at, time.monotonic()) + len(piece) / BYTES_PER_SECOND
                    await asyncio.sleep(free_at - time.monotonic())
                    await response.write(piece)
                    sent, start = sent + len(piece), start + len(piece)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    connection.send(runner.addresses[0][1])
    while await asyncio.to_thread(connection.recv) != "stop":
        connection.send(sent)


async def first_chunk(pool: SamplingPool, media: Media) -> None:
    async with pool.sample(media, SPEC) as video:
        await video.open()
        buffer = await FrameBuffer.allocate(SPEC.chunk_bytes, ByteBudget(SPEC.chunk_bytes))
        assert await video.next_chunk(buffer) is not None
        buffer.close()


async def all_chunks(pool: SamplingPool, media: Media) -> None:
    async with pool.sample(media, SPEC) as video:
        buffer = await FrameBuffer.allocate(SPEC.chunk_bytes, ByteBudget(SPEC.chunk_bytes))
        while await video.next_chunk(buffer) is not None:
            pass
        buffer.close()


async def measure(port: int, connection: Connection) -> None:
    def bytes_sent() -> int:
        connection.send("sent")
        return int(connection.recv())

    async def ignore(done: int, total: int) -> None: ...

    print("| index | first chunk after the download | first chunk while it arrives | ratio | fetched for all chunks |")
    print("|---|---|---|---|---|")
    async with Storage.open(f"http://127.0.0.1:{port}", "us-east-1", ("key", "secret")) as storage:
        sources = Sources(storage, Allowed(buckets=["videos"]), ScratchSpace(ByteBudget(1 << 30), None, 1 << 30))
        async with SamplingPool(1, LIMITS) as pool:
            for name in ("index-last.mp4", "index-first.mp4"):
                uri = S3Uri("videos", name)
                start = time.monotonic()
                with tempfile.TemporaryFile() as file:
                    found = await storage.stat(uri)
                    async with aclosing(storage.blocks(found, 0, found.size)) as blocks:
                        async for block in blocks:
                            file.write(block)
                    file.flush()
                    await first_chunk(pool, WholeFile.of(file.fileno()))
                before = time.monotonic() - start
                start = time.monotonic()
                async with sources.locate(str(uri)).open(ignore) as media:
                    await first_chunk(pool, media)
                    now = time.monotonic() - start
                sent = bytes_sent()
                async with sources.locate(str(uri)).open(ignore) as media:
                    await all_chunks(pool, media)
                    share = (bytes_sent() - sent) / media.size
                place = "at the end" if name == "index-last.mp4" else "at the start"
                label = f"{place}, {found.size / 1e6:.0f} MB"
                print(f"| {label} | {before:.1f} s | {now:.2f} s | {now / before:.2f} | {share:.3f} x its size |")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for index_first in (False, True):
            path = Path(folder) / ("index-first.mp4" if index_first else "index-last.mp4")
            render(path, index_first)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(Path(folder), theirs), daemon=True)
        server.start()
        asyncio.run(measure(ours.recv(), ours))
        ours.send("stop")
        server.join(5)


if __name__ == "__main__":
    main()
