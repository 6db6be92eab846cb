import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from videoanalysis import tensors
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.tensor_pb2 import (
    ELEMENT_TYPE_FLOAT16,
    ELEMENT_TYPE_FLOAT32,
    ELEMENT_TYPE_UNSPECIFIED,
    Tensor,
)

DTYPES = st.sampled_from([np.dtype(np.float16), np.dtype(np.float32)])
SHAPES = npst.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3)


@given(npst.arrays(DTYPES, SHAPES))
def test_an_array_survives_its_message_bit_by_bit(array):
    received = tensors.from_proto(Tensor.FromString(tensors.to_proto(array).SerializeToString()))
    assert (received.dtype, received.shape) == (array.dtype, array.shape)
    # Bits, not values: NaN and -0.0 too.
    assert received.tobytes() == array.tobytes()


@given(npst.arrays(np.float32, (4, 6)))
def test_a_strided_view_is_sent_as_it_reads(array):
    for view in (array[::2], array[:, 1::2], array.T, array[::-1]):
        assert tensors.from_proto(tensors.to_proto(view)).tobytes() == view.tobytes()


def test_the_bytes_are_little_endian_outermost_axis_first():
    message = tensors.to_proto(np.array([[1, 2], [3, 4]], np.float32))
    assert message.data == struct.pack("<4f", 1, 2, 3, 4)
    assert (message.element_type, list(message.shape)) == (ELEMENT_TYPE_FLOAT32, [2, 2])
    halves = tensors.to_proto(np.array([0.5, -2], np.float16))
    assert (halves.element_type, halves.data) == (ELEMENT_TYPE_FLOAT16, struct.pack("<2e", 0.5, -2))


def test_big_endian_arrays_are_sent_as_little_endian():
    assert tensors.to_proto(np.array([1, 2], ">f4")) == tensors.to_proto(np.array([1, 2], "<f4"))


def test_what_is_received_is_a_view_that_cannot_be_written():
    received = tensors.from_proto(Tensor(element_type=ELEMENT_TYPE_FLOAT32, shape=[2], data=bytes(8)))
    assert not received.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        received[0] = 1


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8, np.bool_])
def test_other_element_types_cannot_be_sent(dtype):
    with pytest.raises(TypeError, match=np.dtype(dtype).name):
        tensors.to_proto(np.zeros(2, dtype))


def refusal(**fields: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        tensors.from_proto(Tensor(**fields), "ema_state.ema")
    assert refused.value.field == "ema_state.ema"
    assert refused.value.message.startswith("ema_state.ema: ")
    return refused.value


def test_refuses_an_unknown_element_type():
    for element_type in (ELEMENT_TYPE_UNSPECIFIED, 77):
        assert "element type" in refusal(element_type=element_type, shape=[1], data=bytes(4)).message


def test_refuses_negative_extents_even_if_their_product_fits():
    assert "negative" in refusal(element_type=ELEMENT_TYPE_FLOAT32, shape=[-1, -2], data=bytes(8)).message


def test_refuses_more_than_8_axes():
    tensors.from_proto(Tensor(element_type=ELEMENT_TYPE_FLOAT32, shape=[1] * 8, data=bytes(4)))
    assert "8 axes" in refusal(element_type=ELEMENT_TYPE_FLOAT32, shape=[1] * 9, data=bytes(4)).message


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 2**62, 0], [0, 2**63 - 1]])
def test_refuses_an_empty_tensor_of_impossible_extents(shape):
    assert "too large" in refusal(element_type=ELEMENT_TYPE_FLOAT32, shape=shape).message


@given(
    st.sampled_from([(ELEMENT_TYPE_FLOAT32, 4), (ELEMENT_TYPE_FLOAT16, 2)]),
    st.lists(st.integers(0, 9), max_size=8),
    st.binary(max_size=64),
)
def test_refuses_bytes_that_do_not_fill_the_shape(kind, shape, data):
    element_type, itemsize = kind
    if math.prod(shape) * itemsize == len(data):
        tensors.from_proto(Tensor(element_type=element_type, shape=shape, data=data))
    else:
        assert "do not fill" in refusal(element_type=element_type, shape=shape, data=data).message
