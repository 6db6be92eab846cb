"""CPU seconds of sampling with cuts and transitions detected, compared with sampling alone, by size of the pictures:
OPENBLAS_NUM_THREADS=1 python -m benchmarks.cut_detection   (one thread, as in sampling processes)

What it costs is the detectors' own work and the frames that only they need: the ends of groups of pictures after the
last wanted frame, pictures as large as those of a new shot, and frames decoded again to find a cut between two
neighbours. Clips are real footage with noise, see clips.py; one has a key picture every second.
"""

import time
from statistics import median

import numpy as np

from benchmarks.clips import clip
from benchmarks.sampling import CHUNK, FRAMES, SIZE
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampler import Sampler

NAMES = ("384", "720p", "1080p", "1080p-gop-30", "4k")
REPEATS = 3


def sampled(name: str, *, cuts: bool) -> tuple[float, int, int]:
    """CPU seconds, frames decoded, cuts."""
    out = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    start, found = time.process_time(), 0
    with Sampler(
        str(clip(name)),
        frames_per_chunk=FRAMES,
        chunk_duration=CHUNK,
        image_size=SIZE,
        limits=SamplingLimits(),
        detect_cuts=cuts,
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            found += len(chunk.cuts)
        return time.process_time() - start, sampler.frames_decoded, found


def main() -> None:
    print("| clip | frames decoded alone | with cuts | more frames | cuts | CPU s alone | with cuts | more CPU |")
    print("|---|---|---|---|---|---|---|---|")
    for name in NAMES:
        clip(name)
        runs = [(sampled(name, cuts=False), sampled(name, cuts=True)) for _ in range(REPEATS)]
        (_, frames, _), (_, with_frames, cuts) = runs[0]
        alone = median(run[0][0] for run in runs)
        more = median(run[1][0] - run[0][0] for run in runs)
        print(
            f"| {name} | {frames} | {with_frames} | {with_frames / frames - 1:.1%} | {cuts} | {alone:.2f} "
            f"| {alone + more:.2f} | {more / alone:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
