"""Serializes and parses the messages of EncodeChunk that hold a piece of the frames, without copying the piece.

Protobuf copies a piece twice on either side, which is most of its CPU time for frames. On the wire such a message is a
head (the tag of the field and the length of the piece) and then the piece. All other messages use the generated code.
"""

from videoanalysis.v1.encoder_pb2 import EncodeChunkRequest

_LENGTH_DELIMITED = 2
_TAG = bytes([EncodeChunkRequest.PIECE_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])
_MAX_HEAD_BYTES = 5


def piece_head(nbytes: int) -> bytes:
    """The bytes before a piece of `nbytes` in a serialized EncodeChunkRequest."""
    varint = bytearray()
    while nbytes > 0x7F:
        varint.append(nbytes & 0x7F | 0x80)
        nbytes >>= 7
    varint.append(nbytes)
    return _TAG + varint


def parse(message: bytes) -> EncodeChunkRequest | memoryview:
    """A view of the piece if the message holds only a piece in its usual encoding; otherwise the parsed message.

    Raises DecodeError.
    """
    if message.startswith(_TAG):
        for size in range(2, min(_MAX_HEAD_BYTES, len(message)) + 1):
            head = piece_head(len(message) - size)
            if len(head) == size and message.startswith(head):
                return memoryview(message)[size:]
    return EncodeChunkRequest.FromString(message)
