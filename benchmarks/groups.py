"""Every frame decoded by frame threads, and by whole groups of pictures on threads: python -m benchmarks.groups

Two threads each, compared with one. Every frame is made a thumbnail, on the thread that decodes its group, so that no
decoded picture waits for those before it. Sampling decodes with frame threads.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from threading import local

from benchmarks.clips import clip
from services.ingress.sampling.frame_difference import FrameDifference
from services.ingress.sampling.timeline import Packet
from services.ingress.sampling.video_file import VideoFile

NAMES = ("1080p", "1080p-gop-30")
REPEATS = 2


def opened(path: Path, threads: int = 1) -> VideoFile:
    return VideoFile(str(path), max_pixels=1 << 24, max_packets=1 << 24, threads=threads)


def by_frames(path: Path, threads: int) -> int:
    thumbnails = FrameDifference()
    with opened(path, threads) as video:
        frames = [thumbnails.thumbnail(frame) for packet in video.packets() for frame in video.decode(packet)]
        return len(frames) + len([thumbnails.thumbnail(frame) for frame in video.drain()])


def by_groups(path: Path, threads: int) -> int:
    groups: list[list[Packet]] = []
    own = local()

    def decoded(group: list[Packet]) -> int:
        if not hasattr(own, "video"):
            own.video, own.thumbnails = opened(path), FrameDifference()
        frames = [own.thumbnails.thumbnail(frame) for packet in group for frame in own.video.decode(packet)]
        frames += [own.thumbnails.thumbnail(frame) for frame in own.video.drain()]
        own.video.start_afresh()
        return len(frames)

    with opened(path) as video, ThreadPoolExecutor(threads) as executor:
        for packet in video.packets():
            if packet.entry_point:
                groups.append([])
            groups[-1].append(packet)
        return sum(executor.map(decoded, groups))


def main() -> None:
    print("| clip | way | wall s, best | of one thread | CPU s | of one thread |")
    print("|---|---|---|---|---|---|")
    for name in NAMES:
        path = clip(name)
        ways: dict[str, Callable[[], int]] = {
            "one thread": lambda path=path: by_frames(path, 1),
            "two frame threads": lambda path=path: by_frames(path, 2),
            "groups on two threads": lambda path=path: by_groups(path, 2),
        }
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        counts = set()
        for _ in range(REPEATS):
            for way, work in ways.items():
                wall, cpu = time.monotonic(), time.process_time()
                counts.add(work())
                taken[way].append((time.monotonic() - wall, time.process_time() - cpu))
        if len(counts) > 1:
            raise RuntimeError(f"the ways decoded different numbers of frames: {counts}")
        wall_of_one, cpu_of_one = min(w for w, _ in taken["one thread"]), median(c for _, c in taken["one thread"])
        for way, runs in taken.items():
            wall, cpu = min(w for w, _ in runs), median(c for _, c in runs)
            print(
                f"| {name} | {way} | {wall:.2f} | {wall / wall_of_one:.2f} | {cpu:.2f} | {cpu / cpu_of_one:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
