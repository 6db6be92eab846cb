"""Converts Tensor messages to numpy arrays, without a copy, and back."""

import math

import numpy as np
from numpy.typing import NDArray

from videoanalysis.errors import InvalidInput
from videoanalysis.v1.tensor_pb2 import ELEMENT_TYPE_FLOAT16, ELEMENT_TYPE_FLOAT32, ElementType, Tensor

_NUMPY_DTYPE: dict[ElementType, np.dtype] = {
    ELEMENT_TYPE_FLOAT32: np.dtype("<f4"),
    ELEMENT_TYPE_FLOAT16: np.dtype("<f2"),
}
_ELEMENT_TYPE = {dtype: element_type for element_type, dtype in _NUMPY_DTYPE.items()}
_MAX_AXES = 8


def from_proto(tensor: Tensor, field: str = "tensor") -> NDArray[np.floating]:
    """Read-only view of `tensor`; raises InvalidInput, naming `field`, if the bytes do not fill the shape."""
    dtype = _NUMPY_DTYPE.get(tensor.element_type)
    if dtype is None or len(tensor.shape) > _MAX_AXES or any(extent < 0 for extent in tensor.shape):
        raise InvalidInput(f"{field}: unknown element type, over {_MAX_AXES} axes or negative extent", field=field)
    if len(tensor.data) != math.prod(tensor.shape) * dtype.itemsize:
        raise InvalidInput(f"{field}: {len(tensor.data)} bytes do not fill {list(tensor.shape)}", field=field)
    try:
        return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
    except ValueError as error:
        # An axis of length 0 makes any other fit.
        raise InvalidInput(f"{field}: {list(tensor.shape)} is too large", field=field) from error


def to_proto(array: NDArray[np.floating]) -> Tensor:
    """`array` as a message; float32 and float16 only, otherwise TypeError."""
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _ELEMENT_TYPE:
        raise TypeError(f"no element type for {array.dtype}")
    return Tensor(element_type=_ELEMENT_TYPE[dtype], shape=array.shape, data=array.astype(dtype, copy=False).tobytes())
