"""Cuts and transitions found while sampling, compared with rendered and with viewed truth."""

import json
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampled_chunk import CONTEXT_SECONDS, SampledChunk
from services.ingress.sampling.sampler import Sampler
from tests.ingress.sampling import moving_pictures
from tests.ingress.sampling.moving_pictures import clouds, dark, mixture, play, with_bars
from tests.rendering import render, steady

RATE = 25
LENGTHS = [50, 31, 44, 25, 75, 38, 50, 62]  # frames; 50 and 75 end at the borders of chunks
CUTS = [Fraction(sum(LENGTHS[:count]), RATE) for count in range(1, len(LENGTHS))]
FRAMES = sum(LENGTHS)
SHARED = Path(__file__).parents[4] / "shared" / "videos"

STREAMS = {
    "b_frames.mp4": {"options": {"x264-params": "bframes=3:b-pyramid=none:scenecut=0:keyint=250"}},
    "pyramid.mp4": {"options": {"x264-params": "bframes=3:scenecut=0:keyint=250"}},
    "short_groups.mp4": {"options": {"x264-params": "scenecut=0:keyint=25"}},
    "key_at_cut.mp4": {"options": {"x264-params": "keyint=250"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "g": "15"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
}


def draw(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
    pixels = moving_pictures.shot(scene)(index).astype(np.uint8)
    return np.repeat(np.repeat(pixels, height // 32, axis=0), width // 32, axis=1)


def video(directory: Path, name: str) -> Path:
    return render(
        directory / name,
        steady(RATE, Fraction(FRAMES, RATE)),
        cuts=CUTS,
        draw=draw,
        width=128,
        height=96,
        **STREAMS[name],
    )


def chunks(
    path: Path,
    *,
    seconds: int = 2,
    first: int = 0,
    tolerance: Fraction = Fraction(0),
    detect: bool = True,
    start: Fraction = Fraction(0),
    end: Fraction | None = None,
) -> list[SampledChunk]:
    out = np.empty((4, 32, 32, 3), np.uint8)
    found = []
    with Sampler(
        str(path),
        frames_per_chunk=4,
        chunk_duration=Fraction(seconds),
        image_size=32,
        limits=SamplingLimits(),
        first_chunk=first,
        tolerance=tolerance,
        detect_cuts=detect,
        start=start,
        end=end,
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            found.append(chunk)
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_every_cut_is_found_to_the_frame_in_its_chunk(tmp_path: Path, name: str):
    found = chunks(video(tmp_path, name))
    cuts = [cut for chunk in found for cut in chunk.cuts]
    expected = [float(cut) for cut in CUTS]
    assert [float(cut.time) for cut in cuts] == pytest.approx(expected, abs=0.002)
    assert [float(cut.previous) for cut in cuts] == pytest.approx([cut - 1 / RATE for cut in expected], abs=0.002)
    assert all(cut.exact for cut in cuts)
    for chunk in found:
        assert all(chunk.start <= cut.time < chunk.start + chunk.duration for cut in chunk.cuts)


@pytest.mark.parametrize("name", ["b_frames.mp4", "short_groups.mp4", "vp9.webm"])
def test_a_video_that_is_sampled_from_a_later_chunk_has_the_same_cuts(tmp_path: Path, name: str):
    path = video(tmp_path, name)
    whole = chunks(path)
    context = ceil(CONTEXT_SECONDS / 2)
    for first in range(1, len(whole)):
        rest = chunks(path, first=max(0, first - context))[min(first, context) :]
        assert [(chunk.index, chunk.cuts, chunk.transitions) for chunk in rest] == [
            (chunk.index, chunk.cuts, chunk.transitions) for chunk in whole[first:]
        ]


ONE, OTHER = moving_pictures.shot(1), moving_pictures.shot(2)
HARD_TO_TELL: dict[str, tuple[list[moving_pictures.Picture], list[int]]] = {
    "short shots": (play((ONE, 50), (OTHER, 6), (moving_pictures.shot(3), 6), (ONE, 50)), [50, 56, 62]),
    "dark shots": (play((dark(ONE, 0.2), 50), (dark(OTHER, 0.2), 50)), [50]),
    "little contrast": (play((clouds(1), 50), (clouds(2), 50)), [50]),
    "mixed frame": (play((clouds(1), 50), (mixture(clouds(1), clouds(2), 0.4), 1), (clouds(2), 50)), [51]),
    "black bars": (play((with_bars(dark(ONE, 0.4), 8), 50), (with_bars(dark(OTHER, 0.4), 8), 50)), [50]),
    "light that is switched": (play((ONE, 50), (dark(ONE, 0.6), 50)), []),
    "motion in jerks": (moving_pictures.jerks(50, seed=1), []),
}


@pytest.mark.parametrize("options", [{"x264-params": "scenecut=0:keyint=250"}, {"g": "30"}], ids=["no keys", "keys"])
@pytest.mark.parametrize("kind", HARD_TO_TELL)
def test_of_shots_that_are_hard_to_tell_apart_the_cuts_are_found(tmp_path: Path, kind: str, options: dict[str, str]):
    pictures, cuts = HARD_TO_TELL[kind]

    def draw(index: int, *_: int) -> NDArray[np.uint8]:
        return np.repeat(np.repeat(pictures[index].astype(np.uint8), 4, axis=0), 4, axis=1)

    times = steady(RATE, Fraction(len(pictures), RATE))
    path = render(tmp_path / "video.mp4", times, draw=draw, width=128, height=128, options=options)
    found = [float(cut.time) for chunk in chunks(path) for cut in chunk.cuts]
    assert found == pytest.approx([cut / RATE for cut in cuts], abs=0.042)


# In the middle of a shot; at the first frame of one; with the last frame before a cut as the last one.
@pytest.mark.parametrize(("start", "end"), [("1.2", "13.5"), ("3.24", "12"), ("2.5", "9"), ("5.5", "15")])
@pytest.mark.parametrize("name", ["b_frames.mp4", "short_groups.mp4", "mpeg2.ts"])
def test_of_a_range_every_cut_inside_is_found_to_the_frame(tmp_path: Path, name: str, start: str, end: str):
    first, last = Fraction(start), Fraction(end)
    found = chunks(video(tmp_path, name), start=first, end=last)
    cuts = [cut for chunk in found for cut in chunk.cuts]
    expected = [float(cut) for cut in CUTS if first < cut < last]
    assert len(expected) >= 3
    assert [float(cut.time) for cut in cuts] == pytest.approx(expected, abs=0.002)
    assert [float(cut.previous) for cut in cuts] == pytest.approx([cut - 1 / RATE for cut in expected], abs=0.002)


def test_with_a_tolerance_what_is_not_exact_is_said(tmp_path: Path):
    found = [cut for chunk in chunks(video(tmp_path, "short_groups.mp4"), tolerance=Fraction(1)) for cut in chunk.cuts]
    for cut in found:
        assert any(cut.previous < time <= cut.time for time in CUTS)
        assert cut.exact == (cut.time - cut.previous == Fraction(1, RATE))


def test_without_detection_there_are_none_and_the_same_frames_are_sampled(tmp_path: Path):
    path = video(tmp_path, "short_groups.mp4")
    without = chunks(path, detect=False)
    assert all(chunk.cuts == chunk.transitions == () for chunk in without)
    assert [chunk.frame_times for chunk in without] == [chunk.frame_times for chunk in chunks(path)]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real videos of another directory")
def test_real_cuts_are_found_to_the_frame_and_nothing_else():
    truth = json.loads((SHARED / "cuts.json").read_text())["videos"]
    for name, shown in truth.items():
        shown = shown.get("best_stream", shown)
        cuts = [float(cut.time) for chunk in chunks(SHARED / name, seconds=10) for cut in chunk.cuts]
        assert cuts == pytest.approx([cut["from_first_frame"] for cut in shown["hard_cuts"]], abs=0.002), name
