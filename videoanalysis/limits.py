"""Limits of the contract that several services enforce.

Together they keep every message between the services below gRPC's default limit of MAX_MESSAGE_BYTES.
"""

import re

MAX_FRAMES_PER_CHUNK = 64
MAX_LABELS = 256
# Of a label, and of a text of a text bank.
MAX_TEXT_CHARACTERS = 200
MAX_TOP_K = 100
# Rows of one RankTextsRequest: at most one scene ends at each frame of a chunk.
MAX_RANKED_ROWS = MAX_FRAMES_PER_CHUNK
MAX_EMBEDDING_DIM = 2048
MAX_TEXT_BANKS = 1000

MAX_MESSAGE_BYTES = 4 << 20

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BANK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_bank_name(name: str) -> bool:
    return _BANK_NAME.fullmatch(name) is not None


def has_control_characters(text: str) -> bool:
    return _CONTROL.search(text) is not None
