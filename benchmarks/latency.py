"""Seconds to the first chunk and to the last by the number of decoding threads: python -m benchmarks.latency

Of one 1080p video alone. As many threads decode as cores are idle, six at most; this measures each number up to the
cores of the machine.
"""

import time
from statistics import median

import numpy as np

from benchmarks.clips import clip
from benchmarks.sampling import CHUNK, FRAMES, SIZE
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampler import Sampler
from videoanalysis.cores import cores

REPEATS = 2
MOST_THREADS = 6


def seconds(threads: int) -> tuple[float, float, float]:
    """Wall seconds to the first chunk and to the end; CPU seconds."""
    out = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    start, cpu, first = time.monotonic(), time.process_time(), 0.0
    with Sampler(
        str(clip("1080p")),
        frames_per_chunk=FRAMES,
        chunk_duration=CHUNK,
        image_size=SIZE,
        limits=SamplingLimits(),
        threads=threads,
    ) as sampler:
        while sampler.next_chunk(out) is not None:
            first = first or time.monotonic() - start
    return first, time.monotonic() - start, time.process_time() - cpu


def main() -> None:
    counts = range(1, min(cores(), MOST_THREADS) + 1)
    runs = [{threads: seconds(threads) for threads in counts} for _ in range(REPEATS)]
    one = [median(run[1][column] for run in runs) for column in range(3)]
    print("| threads | first chunk s | whole video s | of one thread | CPU s | of one thread |")
    print("|---|---|---|---|---|---|")
    for threads in counts:
        first, whole, cpu = (median(run[threads][column] for run in runs) for column in range(3))
        print(f"| {threads} | {first:.2f} | {whole:.2f} | {whole / one[1]:.2f} | {cpu:.2f} | {cpu / one[2]:.2f} |")


if __name__ == "__main__":
    main()
