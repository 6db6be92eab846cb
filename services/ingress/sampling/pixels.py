"""A decoded frame as the encoder wants it: upright, square, full-range RGB."""

import struct
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from services.ingress.sampling.video_file import refused
from videoanalysis.v1.error_reason_pb2 import ErrorReason

Pixels = NDArray[np.uint8]

# Those of AVColorSpace that swscale converts; a frame with any other, or with none, counts as untagged.
_CONVERTIBLE_COLORSPACES = frozenset({0, 1, 4, 5, 6, 7, 9})
_HD_HEIGHT = 720
_MATRIX_CARRIER_SIZE = 16


class Resizer:
    """Stretches frames to `size` x `size`, as stored; what it returns is a view that holds until the next call.

    Raises InvalidInput for frames that it cannot convert.
    """

    def __init__(self, size: int, interpolation: Interpolation = Interpolation.BICUBIC) -> None:
        self._size = size
        self._interpolation = interpolation
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Pixels:
        """uint8 [size, size, 3]"""
        plane = self.resized(frame).planes[0]
        shape = (self._size, self._size, 3)
        return np.ndarray(shape, np.uint8, buffer=memoryview(plane), strides=(plane.line_size, 3, 1))

    def resized(self, frame: VideoFrame) -> VideoFrame:
        untagged = frame.colorspace not in _CONVERTIBLE_COLORSPACES and not frame.format.is_rgb
        hd = Colorspace.ITU709 if frame.height >= _HD_HEIGHT else Colorspace.ITU601
        try:
            return self._reformatter.reformat(
                frame,
                width=self._size,
                height=self._size,
                format="rgb24",
                interpolation=self._interpolation,
                src_colorspace=hd if untagged else None,
                dst_color_range=ColorRange.JPEG,
                threads=1,  # more of them cost CPU and gain nothing at this size
            )
        except MemoryError:
            raise
        except av.FFmpegError as error:
            message = f"The video's pictures, of format {frame.format.name}, cannot be converted."
            raise refused(ErrorReason.NOT_A_VIDEO, message) from error


class UprightResizer:
    """Like Resizer, and turned and mirrored as the display matrix of each frame says."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._resize = Resizer(size)
        self._shrink = Resizer(_MATRIX_CARRIER_SIZE, Interpolation.POINT)

    def __call__(self, frame: VideoFrame) -> Pixels:
        return _upright(self._resize(frame), self._display_matrix(frame))

    def _display_matrix(self, frame: VideoFrame) -> bytes | None:
        """That of a tiny copy: `side_data` and its frame refer to each other, so the garbage collector frees both late.

        A decoded frame kept that way would keep its full-size picture.
        """
        matrix = cast(SideDataContainer, self._shrink.resized(frame).side_data).get(Type.DISPLAYMATRIX)
        return None if matrix is None else bytes(matrix)


def _upright(pixels: Pixels, matrix: bytes | None) -> Pixels:
    """`pixels` [size, size, 3] turned and mirrored as the display matrix says.

    The matrix takes the stored place (x, y) to (a·x + c·y, b·x + d·y). One that is no multiple of a quarter turn, which
    would leave black corners, is not followed.
    """
    if matrix is None:
        return pixels
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    if b == c == 0 and a and d:
        across, down = a, d
    elif a == d == 0 and b and c:
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    else:
        return pixels
    return pixels[:: 1 if down > 0 else -1, :: 1 if across > 0 else -1]
