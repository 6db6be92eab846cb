"""Messages with pieces, compared with what protobuf makes of them."""

import os

import pytest
from google.protobuf.message import DecodeError

from videoanalysis import chunk_upload
from videoanalysis.v1.encoder_pb2 import ChunkHeader, EncodeChunkRequest

# Around every length at which the head grows.
SIZES = [0, 1, 127, 128, 129, 16_383, 16_384, 900 << 10, (2 << 20) - 1, 2 << 20]


def piece_of(message: bytes) -> bytes:
    """As protobuf reads it."""
    request = EncodeChunkRequest.FromString(message)
    assert request.WhichOneof("part") == "piece"
    return request.piece


@pytest.mark.parametrize("size", SIZES)
def test_a_head_and_a_piece_are_what_protobuf_serializes(size):
    piece = os.urandom(size)
    assert chunk_upload.piece_head(size) + piece == EncodeChunkRequest(piece=piece).SerializeToString()


@pytest.mark.parametrize("size", SIZES)
def test_a_serialized_piece_is_read_as_a_view_of_the_message(size):
    piece = os.urandom(size)
    message = EncodeChunkRequest(piece=piece).SerializeToString()
    view = chunk_upload.parse(message)
    assert isinstance(view, memoryview)
    assert view == piece
    assert view.obj is message


@pytest.mark.parametrize(
    "message",
    [
        b"\x12\x85\x00hello",  # a length with more bytes than it needs
        b"\x12\x01a\x12\x05hello",  # the last one counts
        b"\x12\x05hello\x78\x01",  # and a field of a later version
        b"\x78\x01\x12\x05hello",
    ],
)
def test_unusual_but_valid_messages_are_read_as_protobuf_reads_them(message):
    request = chunk_upload.parse(message)
    assert isinstance(request, EncodeChunkRequest)
    assert request.piece == piece_of(message) == b"hello"


@pytest.mark.parametrize(
    "request_", [EncodeChunkRequest(header=ChunkHeader(frames=3, chunk_key="a")), EncodeChunkRequest()]
)
def test_other_messages_are_protobuf_messages(request_):
    assert chunk_upload.parse(request_.SerializeToString()) == request_


@pytest.mark.parametrize("message", [b"\x12", b"\x12\x05hell", b"\x12\xff\xff\xff\xff\xff", b"\x0f"])
def test_refuses_what_is_no_message(message):
    with pytest.raises(DecodeError):
        chunk_upload.parse(message)
