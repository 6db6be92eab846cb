"""Peak memory of a sampling process by codec and size, compared with plain decoding: python -m benchmarks.memory

Clips are rendered and kept under build/memory. Each is sampled by a worker of its own in a pool with the service's
limits, and decoded by PyAV alone, on one thread, in a process of its own. Resident memory, in MiB, the interpreter
included; "allowed" is what the estimate grants beyond an idle worker. One clip is repeated to ten times its length.
"""

import asyncio
import os
import re
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from services.ingress.admission import ByteBudget
from services.ingress.sampling import FrameBuffer, SamplingPool, SamplingSpec, WholeFile, WorkerLimits
from services.ingress.sampling.worker_process import MemoryUse

FOLDER = Path(__file__).parents[1] / "build" / "memory"
FRAMES = 40
CODECS = {  # encoder, container, pixel format, options
    "H.264, 16 references": ("libx264", "mp4", "yuv420p", {"preset": "ultrafast", "x264-params": "ref=16:bframes=8"}),
    "HEVC, 10 bit": ("libx265", "mp4", "yuv420p10le", {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"}),
    "VP9": ("libvpx-vp9", "webm", "yuv420p", {"cpu-used": "8", "deadline": "realtime"}),
    "AV1, 10 bit": ("libsvtav1", "mp4", "yuv420p10le", {"preset": "12", "svtav1-params": "lp=1"}),
    "MPEG-2": ("mpeg2video", "mkv", "yuv420p", {}),
    "MPEG-4": ("mpeg4", "mp4", "yuv420p", {"bf": "2"}),
    "GIF": ("gif", "gif", "rgb8", {}),
    "ProRes": ("prores_ks", "mov", "yuv422p10le", {}),
    "MJPEG": ("mjpeg", "avi", "yuvj420p", {}),
}
SIZES = ((640, 360), (1920, 1080), (3840, 2160))
LIMITS = WorkerLimits(
    memory_bytes=6 << 30,
    cpu_seconds=600,
    stall_seconds=120,
    max_pixels=8192 * 4320,
    max_video_seconds=3600,
    max_packets=1_000_000,
)
SPEC = SamplingSpec(frames_per_chunk=16, chunk_duration=Fraction(10), image_size=384)
PLAIN = """
import av, sys
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
        pass
print(open("/proc/self/status").read())
"""


def render(name: str, width: int, height: int, repeats: int = 1) -> Path:
    encoder, container_format, pixel_format, options = CODECS[name]
    path = FOLDER / f"{encoder}-{width}x{height}-{repeats}.{container_format}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    shade = (np.arange(width) * 255 // width)[None, :, None] + np.array([0, 60, 120])
    background = np.broadcast_to(shade, (height, width, 3)).astype(np.uint8)
    scheduler = os.sched_getscheduler(0), os.sched_getparam(0)
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.thread_count = 1
        packets = []
        for index in range(FRAMES):
            pixels = background.copy()
            left = index * 8 % (width - 8)
            pixels[height // 4 : height // 2, left : left + 8] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
            frame.pts = index
            packets += stream.encode(frame)
        packets += stream.encode(None)
        contents = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        for repeat in range(repeats):
            for content, pts, dts, is_keyframe in contents:
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, stream.codec_context.time_base
                packet.pts, packet.dts, packet.duration = pts + repeat * FRAMES, dts + repeat * FRAMES, 1
                packet.is_keyframe = is_keyframe
                container.mux(packet)
    # For root, libsvtav1 gives the calling thread real-time priority, which the measured processes would inherit.
    os.sched_setscheduler(0, *scheduler)
    unfinished.rename(path)
    return path


async def sampled(path: Path) -> tuple[int, int]:
    """Peak resident memory of the worker, and what it was allowed beyond its idle address space; MiB."""
    async with SamplingPool(1, LIMITS) as pool:
        (pid,) = pool.worker_pids
        idle = MemoryUse.of(pid).address_space
        fd = os.open(path, os.O_RDONLY)
        async with pool.sample(WholeFile.of(fd), SPEC) as video:
            await video.open()
            buffer = await FrameBuffer.allocate(SPEC.chunk_bytes, ByteBudget(SPEC.chunk_bytes))
            while await video.next_chunk(buffer) is not None:
                pass
            buffer.close()
            allowed, _ = resource.prlimit(pid, resource.RLIMIT_AS)
            result = peak_of(pid), (allowed - idle) >> 20
        os.close(fd)
    return result


def peak_of(pid: int) -> int:
    return peak(Path(f"/proc/{pid}/status").read_text())


def peak(status: str) -> int:
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) >> 10


def report(name: str, path: Path, width: int, height: int) -> None:
    plain = peak(subprocess.run([sys.executable, "-c", PLAIN, str(path)], capture_output=True, text=True).stdout)
    ours, allowed = asyncio.run(sampled(path))
    print(f"| {name} | {width} x {height} | {plain} | {ours} | {ours / plain:.2f} | {allowed} |", flush=True)


def main() -> None:
    print("| codec | pictures | plain decoding | sampling process | ratio | allowed |")
    print("|---|---|---|---|---|---|")
    for name in CODECS:
        for width, height in SIZES:
            report(name, render(name, width, height), width, height)
    name, (width, height) = next(iter(CODECS)), SIZES[1]
    report(f"{name}, ten times as long", render(name, width, height, repeats=10), width, height)
    report("GIF", render("GIF", 8192, 4320), 8192, 4320)


if __name__ == "__main__":
    main()
