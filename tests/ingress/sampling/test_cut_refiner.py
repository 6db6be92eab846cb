"""The cut that a sampler reports between two sampled frames, compared with the truth of rendered videos."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.ingress.sampling.cut_refiner import CutRefiner
from services.ingress.sampling.frame_difference import FrameChange
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampled_chunk import LargestChange
from services.ingress.sampling.sampler import Sampler
from tests.rendering import calm_picture, render, steady

RATE, SECONDS = 25, 30
CUTS = [Fraction(place, 100) for place in (456, 1104, 2148)]
FIXED_GROUPS = {"sc_threshold": "0", "x264-params": "scenecut=0"}
STREAMS: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "h264_groups_of_25.mp4": {"options": {**FIXED_GROUPS, "g": "25"}},
    "h264_one_group.mp4": {"options": {**FIXED_GROUPS, "g": "1000"}},
    "h264_without_b_frames.mp4": {"options": {**FIXED_GROUPS, "g": "15", "bf": "0"}},
    "h264_groups_of_25.ts": {"options": {**FIXED_GROUPS, "g": "25"}},
    "h264_starts_at_3.6.mkv": {"options": {**FIXED_GROUPS, "g": "25"}, "start": Fraction(18, 5)},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=25:scenecut=0:log-level=none"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "15", "cpu-used": "8", "deadline": "realtime"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
}


def rendered(directory: Path, name: str) -> Path:
    return render(directory / name, steady(RATE, SECONDS), cuts=CUTS, draw=calm_picture, **STREAMS[name])


def found_cuts(path: Path, *, refined: bool) -> tuple[list[LargestChange], int]:
    """What the sampler says of the intervals with a cut, and the frames it decoded."""
    out = np.empty((16, 32, 32, 3), np.uint8)
    found, sampled = [], 0.0
    with Sampler(
        str(path), frames_per_chunk=16, chunk_duration=Fraction(10), image_size=32, limits=SamplingLimits()
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            for time, cut in zip(chunk.frame_times, chunk.largest_changes, strict=True):
                if any(sampled < true <= time for true in CUTS):
                    assert cut is not None
                    found.append(sampler.refine_cut(cut) if refined else cut)
                sampled = time
        return found, sampler.frames_decoded


@pytest.mark.parametrize("name", STREAMS)
def test_a_hard_cut_is_found_to_the_frame_or_said_not_to_be_exact(name, tmp_path):
    path = rendered(tmp_path, name)
    cuts, decoded = found_cuts(path, refined=True)
    _, decoded_without = found_cuts(path, refined=False)
    errors = [abs(cut.at - true) * RATE for cut, true in zip(cuts, CUTS, strict=True)]
    assert np.median([float(error) for error in errors]) <= 1
    for cut, true, error in zip(cuts, CUTS, errors, strict=True):
        assert cut.before < true <= cut.at
        assert error == 0 or not cut.exact
        assert cut.confidence > 0.9
    assert decoded - decoded_without <= 0.1 * RATE * SECONDS


@pytest.mark.parametrize(
    "name", ["h264_groups_of_25.mp4", "h264_without_b_frames.mp4", "h264_groups_of_25.ts", "vp9.webm"]
)
def test_where_decoding_can_start_nearby_every_cut_is_exact(name, tmp_path):
    cuts, _ = found_cuts(rendered(tmp_path, name), refined=True)
    assert [cut.at for cut in cuts] == CUTS
    assert all(cut.exact for cut in cuts)


@pytest.mark.parametrize("name", ["h264_one_group.mp4", "h264_without_b_frames.mp4", "vp9.webm"])
def test_what_a_large_picture_gives_away_is_exact_without_a_search(name, tmp_path):
    cuts, _ = found_cuts(rendered(tmp_path, name), refined=False)
    assert [cut.at for cut in cuts] == CUTS
    assert all(cut.exact for cut in cuts)


def test_a_dissolve_does_not_stand_out(tmp_path):
    def draw(index: int, scene: int, width: int, height: int) -> np.ndarray:
        share = np.clip((index - 50) / 100, 0, 1)
        old, new = calm_picture(0, 0, width, height), calm_picture(0, 1, width, height)
        return ((1 - share) * old + share * new).astype(np.uint8)

    path = render(tmp_path / "dissolve.mp4", steady(RATE, 8), draw=draw)
    out = np.empty((16, 32, 32, 3), np.uint8)
    with Sampler(
        str(path), frames_per_chunk=16, chunk_duration=Fraction(10), image_size=32, limits=SamplingLimits()
    ) as sampler:
        chunk = sampler.next_chunk(out)
    within = [cut for time, cut in zip(chunk.frame_times, chunk.largest_changes, strict=True) if 2.5 < time < 5.5]
    assert within
    assert all(cut.confidence < 0.7 for cut in within)


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_a_frame_that_mixes_the_two_shots_does_not_blur_the_cut(tmp_path, share):
    def draw(index: int, scene: int, width: int, height: int) -> np.ndarray:
        old, new = calm_picture(0, 0, width, height), calm_picture(0, 1, width, height)
        return old if index < 60 else new if index > 60 else ((1 - share) * old + share * new).astype(np.uint8)

    path = render(tmp_path / "mixture.mp4", steady(RATE, 6), draw=draw, options={**FIXED_GROUPS, "g": "25"})
    tick = 512  # of 1/12800 s
    change = FrameChange(before=56 * tick, at=64 * tick, exact=False, size=0.2, confidence=1)
    with CutRefiner(str(path), max_pixels=1 << 20) as search:
        found = search.refine(change, max_frames=100)
    assert found.at - found.before == tick
    assert found.at in {60 * tick, 61 * tick}
    assert found.confidence > 0.9


def test_nothing_is_known_before_the_first_frame_and_of_a_picture_that_stands_still(tmp_path):
    still = calm_picture(0, 0, 64, 48)
    path = render(tmp_path / "still.mp4", steady(RATE, 3), draw=lambda *_: still)
    out = np.empty((16, 32, 32, 3), np.uint8)
    with Sampler(
        str(path), frames_per_chunk=16, chunk_duration=Fraction(10), image_size=32, limits=SamplingLimits()
    ) as sampler:
        assert sampler.next_chunk(out).largest_changes == (None,) * 16


def test_a_search_that_would_decode_too_much_is_not_begun(tmp_path):
    path = rendered(tmp_path, "h264_one_group.mp4")
    change = FrameChange(before=12_800, at=13_312, exact=False, size=0.2, confidence=0.5)
    with CutRefiner(str(path), max_pixels=1 << 20) as search:
        assert search.refine(change, max_frames=20) is change
        assert search.frames_decoded == 0


def test_frames_that_are_not_there_are_not_found(tmp_path):
    path = rendered(tmp_path, "h264_groups_of_25.mp4")
    change = FrameChange(before=1, at=3, exact=False, size=0.2, confidence=0.5)  # no frame has such a pts
    with CutRefiner(str(path), max_pixels=1 << 20) as search:
        assert search.refine(change, max_frames=1000) is change
