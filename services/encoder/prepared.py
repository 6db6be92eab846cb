"""The record of a prepared model: which files it was made of, and the hashes of its own."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from services.encoder.engine import StartupError

RECORD = "prepared.json"
# The vision tower, scale and bias; the text tower.
VISION, TEXT = "vision.safetensors", "text.safetensors"


class Record(BaseModel):
    """prepared.json. Hashes are SHA-256, in hexadecimal, by file name.

    `source` lists the files that the digest of the model covers; configuration and tokenizer are copied from there as
    they are, so its hashes hold for the copies too. `weights` are the files with the converted weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    # Empty for a model that was prepared from a directory.
    model_id: str
    revision: str
    precision: Literal["bfloat16"] = "bfloat16"
    source: dict[str, str]
    weights: dict[str, str]

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """None where the directory holds no prepared model; raises StartupError if its record is damaged."""
        path = directory / RECORD
        if not path.is_file():
            return None
        try:
            record = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"])) or "the whole file"
            raise StartupError(
                f"ENCODER_MODEL: {path} is damaged or of another version ({at}: {first['msg']}); prepare the "
                "model again."
            ) from error
        if record.weights.keys() != {VISION, TEXT}:
            raise StartupError(f"ENCODER_MODEL: {path} does not name {VISION} and {TEXT}; prepare the model again.")
        return record


def sha256(path: Path) -> str:
    """Reads in steps of 64 MiB: each step waits for the lock of the interpreter, which imports hold for long."""
    hashed = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(min(path.stat().st_size + 1, 64 << 20)))
        while count := file.readinto(buffer):
            hashed.update(buffer[:count])
    return hashed.hexdigest()


def digest(hashes: Mapping[str, str]) -> str:
    """The digest of a model, "sha256:…", from the SHA-256 of each of its files by name."""
    lines = (f"{name}\0{hashes[name]}\n" for name in sorted(hashes))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
