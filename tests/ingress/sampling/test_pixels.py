"""What whole videos do not show; the rest is in test_sampler.py."""

import av
import numpy as np
import pytest

from services.ingress.sampling.pixels import Resizer
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

SIZE = 16


def noise(height: int = 48) -> av.VideoFrame:
    planes = np.random.default_rng(1).integers(0, 256, (height * 3 // 2, 64), np.uint8)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


@pytest.mark.parametrize("height", [48, 720])
@pytest.mark.parametrize("colorspace", [3, 8, 10, 14])  # reserved, YCgCo, BT.2020 constant luminance, ICtCp
def test_a_colour_matrix_that_cannot_be_converted_counts_as_none(height: int, colorspace: int) -> None:
    resize = Resizer(SIZE)
    tagged = noise(height)
    tagged.colorspace = colorspace
    assert np.array_equal(resize(tagged).copy(), resize(noise(height)))


def test_a_colour_matrix_that_is_named_is_followed() -> None:
    resize = Resizer(SIZE)
    tagged = noise(48)
    tagged.colorspace = 1  # BT.709
    assert not np.array_equal(resize(tagged).copy(), resize(noise(48)))


def test_frames_that_cannot_be_converted_are_refused() -> None:
    frame = noise()
    frame.color_range = 3  # there is none of that number
    with pytest.raises(InvalidInput) as caught:
        Resizer(SIZE)(frame)
    assert (caught.value.reason, caught.value.field) == (ErrorReason.NOT_A_VIDEO, "video_uri")
