"""Finds or downloads a SigLIP checkpoint, whole or prepared, checks its files and computes its digest."""

import json
import threading
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any

from services.encoder.engine import StartupError
from services.encoder.prepared import RECORD, TEXT, VISION, Record, digest, sha256

# No other file of a repository is downloaded or read: neither code nor pickles.
_DOWNLOADED = ["*.json", "*.safetensors", "spiece.model"]
_TOKENIZER = ["spiece.model", "tokenizer.json"]
_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
# Files other than weights that determine the embeddings.
_CONFIGURATION = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *_TOKENIZER,
]
# Inode, size in bytes and modification time: a file with the same values counts as unchanged.
_Identity = tuple[int, int, int]
_EXAMPLES = "google/siglip-so400m-patch14-384 or google/siglip2-so400m-patch14-384"


class Checkpoint:
    """A SigLIP checkpoint on disk, whole or prepared. `revision` is the hub commit, empty for a directory.

    `name` is what the operator wrote.
    """

    def __init__(self, name: str, revision: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.record = Record.read(directory)
        recorded = self.record is not None and self.record.model_id
        self.model_id = self.record.model_id if self.record and recorded else name
        self.revision = self.record.revision if self.record and recorded else revision
        self._read: dict[str, tuple[_Identity, str]] = {}

    @property
    def digest(self) -> str:
        """ "sha256:…" of configuration, tokenizer and weights: equal files have equal digests.

        A prepared model has the digest of its source. Reads every byte of a whole checkpoint, and all of a prepared one
        but the text tower; raises StartupError if a file of a prepared one differs from its record.
        """
        return digest(self.hashes())

    def hashes(self) -> dict[str, str]:
        """SHA-256 by name of the files that the digest covers; computed once."""
        return self._hashing.result()

    def start_hashing(self) -> None:
        """Computes the hashes on a thread of its own, mostly without the lock of the interpreter."""
        _ = self._hashing

    @cached_property
    def _hashing(self) -> Future[dict[str, str]]:
        future: Future[dict[str, str]] = Future()

        def compute() -> None:
            try:
                future.set_result(self._hash())
            except BaseException as error:
                future.set_exception(error)

        # Not an executor: the process could not exit before its threads end.
        threading.Thread(target=compute, name="digest", daemon=True).start()
        return future

    def _hash(self) -> dict[str, str]:
        found = {path.name: self._sha256(path) for path in self.configuration_files}
        if self.record is None:
            return found | {path.name: self._sha256(path) for path in self.weights("")}
        copied = {name: value for name, value in self.record.source.items() if name in _CONFIGURATION}
        for name in sorted(found.keys() | copied.keys()):
            self._require(name, found.get(name), copied.get(name))
        self._require(VISION, self._sha256(self.directory / VISION), self.record.weights[VISION])
        return self.record.source

    def require_intact(self, prefix: str = "") -> None:
        """Raises StartupError if the files `weights(prefix)` are not those of the digest.

        Files with unchanged size and modification time are not read again.
        """
        expected = self.hashes() if self.record is None else self.record.weights
        for path in self.weights(prefix):
            self._require(path.name, self._sha256(path), expected[path.name])

    def _require(self, name: str, found: str | None, expected: str | None) -> None:
        if found != expected:
            raise StartupError(
                f"ENCODER_MODEL={self.name}: the SHA-256 of {name} is {found or 'missing'}, recorded is "
                f"{expected or 'no such file'}; copy or prepare the model again, and do not change its files."
            )

    def _sha256(self, path: Path) -> str:
        """Reads the file unless it is as it was when last read."""
        status = path.stat()
        identity = (status.st_ino, status.st_size, status.st_mtime_ns)
        if path.name not in self._read or self._read[path.name][0] != identity:
            self._read[path.name] = (identity, sha256(path))
        return self._read[path.name][1]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return _read_json(self.directory / "config.json")

    @property
    def configuration_files(self) -> list[Path]:
        """Configuration and tokenizer: the files of the digest other than weights."""
        return [path for name in _CONFIGURATION if (path := self.directory / name).is_file()]

    def weights(self, prefix: str) -> list[Path]:
        """The files that hold the tensors whose names begin with `prefix`; all files for an empty one."""
        if self.record is not None:
            names = [name for name in (VISION, TEXT) if not prefix or (name == TEXT) == (prefix == "text_model.")]
        elif not (self.directory / _WEIGHTS).is_file() and (self.directory / _WEIGHTS_INDEX).is_file():
            files = _read_json(self.directory / _WEIGHTS_INDEX).get("weight_map", {})
            names = sorted({Path(file).name for tensor, file in files.items() if tensor.startswith(prefix)})
        else:
            names = [_WEIGHTS]
        return [self.directory / name for name in names]

    @cached_property
    def preprocessing(self) -> dict[str, Any]:
        """The image processor's configuration: image_mean, image_std, rescale_factor, …

        If both files have one, the one that transformers uses.
        """
        for name, key in (("processor_config.json", "image_processor"), ("preprocessor_config.json", None)):
            if (self.directory / name).is_file():
                document = _read_json(self.directory / name)
                found = document.get(key) if key else document
                if isinstance(found, dict):
                    return found
        raise StartupError(
            f"ENCODER_MODEL={self.name}: {self.directory} has no preprocessor_config.json, which states how "
            "pictures are normalised; copy it from the model that this one is derived from."
        )


def resolve(model: str, revision: str | None) -> Checkpoint:
    """The checkpoint that `model` names, downloaded if it is a hub id; raises StartupError if it cannot be served.

    Honours HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE.
    """
    directory = Path(model).expanduser()
    if directory.is_dir():
        if revision is not None:
            raise StartupError(
                f"ENCODER_REVISION={revision} names a commit of a hub id, but ENCODER_MODEL={model} is a directory; "
                "unset one of the two."
            )
        checkpoint = Checkpoint(model, "", directory)
    elif model.startswith(("/", ".", "~")):
        raise StartupError(f"ENCODER_MODEL={model}: there is no such directory; mount it or name a hub id.")
    else:
        directory = _download(model, revision)
        checkpoint = Checkpoint(model, directory.name, directory)
    _require_siglip(checkpoint)
    return checkpoint


def _download(model: str, revision: str | None) -> Path:
    """Weights come last, and not at all for a model that cannot be served."""
    from huggingface_hub import snapshot_download

    try:
        described = Path(snapshot_download(model, revision=revision, allow_patterns=["config.json", RECORD]))
        if (described / "config.json").is_file():
            _require_model_type(model, _read_json(described / "config.json"))
        return Path(snapshot_download(model, revision=described.name, allow_patterns=_DOWNLOADED))
    except (OSError, ValueError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StartupError(
            f"ENCODER_MODEL={model} (revision {revision or 'main'}) could not be downloaded: {cause} Check the id, "
            "the network, HF_TOKEN for a gated model and HF_HUB_OFFLINE, or set ENCODER_MODEL to a directory."
        ) from error


def _require_siglip(checkpoint: Checkpoint) -> None:
    named, directory = f"ENCODER_MODEL={checkpoint.name}", checkpoint.directory
    if not (directory / "config.json").is_file():
        raise StartupError(f"{named}: {directory} has no config.json; name the directory of a SigLIP checkpoint.")
    _require_model_type(checkpoint.name, checkpoint.config)
    missing = [path.name for path in checkpoint.weights("") if not path.is_file()]
    if missing and checkpoint.record is not None:
        raise StartupError(f"{named}: {directory} has no {', '.join(missing)}; copy or prepare the model again.")
    if missing:
        raise StartupError(
            f"{named}: {directory} has no {', '.join(missing)}; weights are read from safetensors only, so convert "
            "others with transformers' save_pretrained."
        )
    if not any((directory / name).is_file() for name in _TOKENIZER):
        raise StartupError(f"{named}: {directory} has no tokenizer; copy {' or '.join(_TOKENIZER)} into it.")
    _ = checkpoint.preprocessing


def _require_model_type(name: str, config: dict[str, Any]) -> None:
    model_type = config.get("model_type")
    if model_type == "siglip2":
        raise StartupError(
            f"ENCODER_MODEL={name} is a NaFlex SigLIP 2 model, which takes pictures of any size; use one with a fixed "
            "picture size, such as google/siglip2-so400m-patch14-384."
        )
    if model_type in ("siglip_vision_model", "siglip_text_model"):
        raise StartupError(f"ENCODER_MODEL={name} holds one tower of a SigLIP model; use a whole one, with both.")
    if model_type != "siglip":
        raise StartupError(
            f"ENCODER_MODEL={name} is a {model_type!r} model; this engine serves SigLIP and SigLIP 2 with a fixed "
            f"picture size: use {_EXAMPLES}."
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StartupError(f"ENCODER_MODEL: {path} is not JSON ({error}); download the checkpoint again.") from error
    return document if isinstance(document, dict) else {}
