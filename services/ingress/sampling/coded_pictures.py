"""What coded pictures say about themselves, read from the bytes of a packet without decoding it."""

from collections.abc import Iterator

_START_CODE = b"\x00\x00\x01"
_SLICE, _IDR_SLICE = 1, 5  # NAL unit types of H.264
_HEVC_SLICES, _HEVC_SUB_LAYER_PICTURES = 32, 16  # NAL unit types below
_MPEG12_PICTURE, _MPEG4_PICTURE = 0x00, 0xB6  # start codes
_MPEG12_B, _MPEG4_B = 3, 2  # coding types


def has_idr_slice(access_unit: bytes, extradata: bytes) -> bool:
    """Whether an H.264 packet holds an instantaneous decoder refresh."""
    return any(unit[0] & 0x1F == _IDR_SLICE for unit in _h264_units(access_unit, extradata))


def is_reference(codec: str, packet: bytes, extradata: bytes) -> bool:
    """Whether other pictures may refer to the one that begins in `packet`, the first bytes of it; True if unknown."""
    match codec:
        case "h264":
            for unit in _h264_units(packet, extradata):
                if _SLICE <= unit[0] & 0x1F <= _IDR_SLICE:
                    return unit[0] & 0x60 != 0
        case "hevc":
            for unit in _hevc_units(packet, extradata):
                if (kind := unit[0] >> 1 & 0x3F) < _HEVC_SLICES:
                    return kind >= _HEVC_SUB_LAYER_PICTURES or kind % 2 == 1
        case "mpeg1video" | "mpeg2video":
            header = _after_start_code(packet, _MPEG12_PICTURE)
            return len(header) < 2 or header[1] >> 3 & 7 != _MPEG12_B
        case "mpeg4":
            header = _after_start_code(packet, _MPEG4_PICTURE)
            return len(header) < 1 or header[0] >> 6 != _MPEG4_B
    return True


def _h264_units(packet: bytes, extradata: bytes) -> Iterator[bytes]:
    """The NAL units, each not empty; the last may be cut short."""
    is_avc = extradata[:1] == b"\x01" and len(extradata) > 4
    return _units(packet, (extradata[4] & 3) + 1 if is_avc else 0)


def _hevc_units(packet: bytes, extradata: bytes) -> Iterator[bytes]:
    is_hvc = len(extradata) > 21 and not extradata.startswith((_START_CODE, b"\x00" + _START_CODE))
    return _units(packet, (extradata[21] & 3) + 1 if is_hvc else 0)


def _units(packet: bytes, length_size: int) -> Iterator[bytes]:
    """Each after a length of so many bytes, or between start codes, as in a transport stream, if that is 0."""
    if length_size == 0:
        yield from filter(None, packet.split(_START_CODE)[1:])
        return
    position = 0
    while position + length_size < len(packet):
        length = int.from_bytes(packet[position : position + length_size], "big")
        position += length_size
        if unit := packet[position : position + length]:
            yield unit
        position += length


def _after_start_code(packet: bytes, code: int) -> bytes:
    _, _, header = packet.partition(_START_CODE + bytes([code]))
    return header
