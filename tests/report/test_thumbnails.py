"""Thumbnails of videos whose every frame has a brightness of its own."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.rendering import remux, render, steady
from videoanalysis.report import thumbnails
from videoanalysis.report.thumbnails import Thumbnail

FRAMES_PER_SECOND = 4
LEVELS = 4  # of brightness, from one frame to the next


def shaded(index: int, scene: int, width: int, height: int) -> np.ndarray:
    """As bright as its number, and black where it is down on the right."""
    pixels = np.full((height, width, 3), 20 + LEVELS * index, np.uint8)
    pixels[height // 2 :, width // 2 :] = 0
    return pixels


def pixels(thumbnail: Thumbnail) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(thumbnail.jpeg)).convert("RGB"))


def frame_numbers(path: Path, times: Sequence[float]) -> list[int]:
    """The numbers of the frames that are pictured for `times`."""
    taken = list(thumbnails.take(path, times, budget_seconds=60))
    assert [time for time, _ in taken] == list(times)
    return [round((pixels(thumbnail)[2:10, 2:10, 1].mean() - 20) / LEVELS) for _, thumbnail in taken]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 s with a key picture every 2 s, and pictures that refer to later ones."""
    path = tmp_path_factory.mktemp("clip") / "shaded.mp4"
    options = {"g": "8", "bf": "2", "qp": "10"}
    return render(path, steady(FRAMES_PER_SECOND, 14), draw=shaded, options=options)


def test_the_frame_on_display_is_pictured(clip):
    assert frame_numbers(clip, [0, 0.25, 0.49, 0.5, 1.99]) == [0, 1, 1, 2, 7]


def test_also_after_a_leap(clip):
    assert frame_numbers(clip, [0, 5.0, 5.24, 9.75, 13.75]) == [0, 20, 20, 39, 55]


def test_after_the_last_frame_it_stays_on_display(clip):
    assert frame_numbers(clip, [13.9, 60.0]) == [55, 55]


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi"])
def test_every_container_is_leapt_in(suffix, tmp_path):
    path = tmp_path / f"clip{suffix}"
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    options = {"g": "8", "qp": "10"} if codec == "libx264" else {"g": "8", "qscale": "2", "flags": "+qscale"}
    start = 0 if suffix == ".avi" else 7
    render(path, steady(FRAMES_PER_SECOND, 14), draw=shaded, codec=codec, start=start, options=options)
    assert frame_numbers(path, [0, 0.5, 6.25, 12.0]) == [0, 2, 25, 48]


def test_where_leaps_lead_nowhere_it_is_played_from_the_start(tmp_path):
    path = render(tmp_path / "one_key.ts", steady(FRAMES_PER_SECOND, 14), draw=shaded, options={"g": "99", "qp": "10"})
    assert frame_numbers(path, [0, 0.5, 6.25, 12.0]) == [0, 2, 25, 48]


@pytest.mark.parametrize(
    ("rotation", "black_corner"),
    # Counterclockwise, the lower right corner goes up.
    [(0, (-1, -1)), (90, (0, -1)), (180, (0, 0)), (270, (-1, 0))],
)
def test_pictures_are_upright(rotation, black_corner, tmp_path):
    path = render(tmp_path / "turned.mp4", steady(FRAMES_PER_SECOND, 1), draw=shaded, rotation=rotation)
    ((_, thumbnail),) = thumbnails.take(path, [0.0], budget_seconds=60)
    shape = (thumbnail.width, thumbnail.height)
    assert shape == ((192, 144) if rotation % 180 == 0 else (144, 192))
    turned = pixels(thumbnail)
    assert turned.shape == (thumbnail.height, thumbnail.width, 3)
    corners = {corner: turned[corner].mean() for corner in [(0, 0), (0, -1), (-1, 0), (-1, -1)]}
    assert min(corners, key=corners.get) == black_corner


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    narrow = render(tmp_path / "narrow.mp4", steady(4, 1), options={"x264-params": "sar=2/1"}, width=64, height=64)
    ((_, thumbnail),) = thumbnails.take(narrow, [0.0], budget_seconds=60)
    assert (thumbnail.width, thumbnail.height) == (192, 96)


def test_packets_that_cannot_be_decoded_are_passed_over(clip, tmp_path):
    damaged = remux(tmp_path / "damaged.mp4", clip, damaged={50})
    assert frame_numbers(damaged, [0, 0.5]) == [0, 2]
    assert len(list(thumbnails.take(damaged, [0, 13.75], budget_seconds=60))) == 2


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_of_what_is_no_video_there_are_none(content, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    assert list(thumbnails.take(path, [0.0], budget_seconds=60)) == []


def test_a_missing_file_has_none(tmp_path):
    assert list(thumbnails.take(tmp_path / "gone.mp4", [0.0], budget_seconds=60)) == []


def test_when_the_budget_is_spent_the_rest_is_left_out(clip):
    assert len(list(thumbnails.take(clip, [0.0, 1.0, 2.0], budget_seconds=0))) == 1


def test_times_are_exact_however_odd_the_rate(tmp_path):
    rate = Fraction(30000, 1001)
    path = render(tmp_path / "odd.mp4", steady(rate, 1.5), draw=shaded, options={"qp": "10"})
    times = [float(index / rate) for index in range(45)]
    assert frame_numbers(path, times) == list(range(45))
