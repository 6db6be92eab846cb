"""The demonstration clip: `python -m services.encoder.bundled.clip services/ingress/sources/sample_clip.mp4`.

SHOTS and CUTS are the truth about it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from services.encoder.bundled.held_out import FIRST_SEED
from services.encoder.bundled.scenes import Scene, render

SIZE = 384
RATE = 25
# Of 16 samples in 10 seconds none falls into the dissolve.
DISSOLVE_SECONDS = 0.48


@dataclass(frozen=True, slots=True)
class Shot:
    """`scene` from `start` to `end`, in seconds; with `dissolves` it begins to come in over the shot before there."""

    start: float
    end: float
    scene: Scene
    dissolves: bool = False


_SEED = FIRST_SEED
SHOTS = (
    Shot(0.0, 7.4, Scene("beach", "circle", "red", "plain", "day", "bouncing", _SEED)),
    Shot(7.4, 11.0, Scene("space", "star", "orange", "shaded", None, "drifting", _SEED + 1)),
    Shot(11.0, 18.2, Scene("forest", "heart", "pink", "spotted", "night", "circling", _SEED + 2)),
    Shot(18.2, 21.4, Scene("library", "crescent", "blue", "netted", None, "swaying", _SEED + 3)),
    Shot(21.4, 30.68, Scene("mountains", "star", "red", "striped", "snow", "drifting", _SEED + 4)),
    Shot(30.68, 33.8, Scene("road", "diamond", "blue", "checkered", "rain", "bouncing", _SEED + 5), dissolves=True),
    Shot(33.8, 40.0, Scene("city", "circle", "green", "plain", "sunset", "circling", _SEED + 6)),
)
# When each shot but the first begins, in seconds.
CUTS = tuple(shot.start for shot in SHOTS[1:])


def pictures() -> Iterator[NDArray[np.uint8]]:
    """Every frame of the clip in turn, uint8 [SIZE, SIZE, 3]."""
    return (picture(Fraction(index, RATE)) for index in range(round(SHOTS[-1].end * RATE)))


def picture(time: Fraction) -> NDArray[np.uint8]:
    """The frame at `time`, in seconds."""
    number = max(number for number, shot in enumerate(SHOTS) if Fraction(str(shot.start)) <= time)
    shot, seconds = SHOTS[number], float(time)
    shown = render(shot.scene, seconds, SIZE)
    progress = (seconds - shot.start) / DISSOLVE_SECONDS
    if not shot.dissolves or progress >= 1:
        return shown
    before = render(SHOTS[number - 1].scene, seconds, SIZE)
    return (before * (1 - progress) + shown * progress + 0.5).astype(np.uint8)


def write(path: Path) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "30", "preset": "veryslow"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        # More threads cut the picture into slices and make the file depend on the machine.
        stream.codec_context.thread_count = 1
        for pixels in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m services.encoder.bundled.clip FILE.mp4")
    write(Path(sys.argv[1]))
