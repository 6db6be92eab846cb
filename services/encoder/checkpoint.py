"""Finds or downloads a SigLIP checkpoint, checks its files and computes its digest."""

import hashlib
import json
import threading
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any

from services.encoder.engine import StartupError

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


class Checkpoint:
    """A SigLIP checkpoint on disk. `revision` is the hub commit, empty for a directory."""

    def __init__(self, model_id: str, revision: str, directory: Path) -> None:
        self.model_id = model_id
        self.revision = revision
        self.directory = directory

    @property
    def digest(self) -> str:
        """ "sha256:…" of configuration, tokenizer and weights: equal files have equal digests.

        Reads every byte: seconds for a large model.
        """
        return self._hashing.result()

    def start_hashing(self) -> None:
        """Compute the digest on a thread of its own, which leaves the lock of the interpreter to others."""
        _ = self._hashing

    @cached_property
    def _hashing(self) -> Future[str]:
        future: Future[str] = Future()

        def compute() -> None:
            try:
                future.set_result(self._hash())
            except BaseException as error:
                future.set_exception(error)

        # Not an executor, whose threads the end of the process waits for.
        threading.Thread(target=compute, name="digest", daemon=True).start()
        return future

    def _hash(self) -> str:
        digest = hashlib.sha256()
        present = [name for name in _CONFIGURATION if (self.directory / name).is_file()]
        for name in sorted([*present, *_weight_files(self.directory)]):
            with (self.directory / name).open("rb") as file:
                digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return _read_json(self.directory / "config.json")

    def weights(self, prefix: str) -> list[Path]:
        """The files that hold the tensors whose names begin with `prefix`."""
        return [self.directory / name for name in _weight_files(self.directory, prefix)]

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
            f"ENCODER_MODEL={self.model_id}: {self.directory} has no preprocessor_config.json, which states how "
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
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=_DOWNLOADED))
    except (OSError, ValueError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StartupError(
            f"ENCODER_MODEL={model} (revision {revision or 'main'}) could not be downloaded: {cause} Check the id, "
            "the network, HF_TOKEN for a gated model and HF_HUB_OFFLINE, or set ENCODER_MODEL to a directory."
        ) from error


def _require_siglip(checkpoint: Checkpoint) -> None:
    named, directory = f"ENCODER_MODEL={checkpoint.model_id}", checkpoint.directory
    if not (directory / "config.json").is_file():
        raise StartupError(f"{named}: {directory} has no config.json; name the directory of a SigLIP checkpoint.")
    model_type = checkpoint.config.get("model_type")
    if model_type != "siglip":
        raise StartupError(
            f"{named} is a {model_type!r} model; this engine serves SigLIP with a fixed picture size, model_type "
            "'siglip', such as google/siglip-so400m-patch14-384."
        )
    missing = [name for name in _weight_files(directory) if not (directory / name).is_file()]
    if missing:
        raise StartupError(
            f"{named}: {directory} has no {', '.join(missing)}; weights are read from safetensors only, so convert "
            "others with transformers' save_pretrained."
        )
    if not any((directory / name).is_file() for name in _TOKENIZER):
        raise StartupError(f"{named}: {directory} has no tokenizer; copy {' or '.join(_TOKENIZER)} into it.")
    _ = checkpoint.preprocessing


def _weight_files(directory: Path, prefix: str = "") -> list[str]:
    if not (directory / _WEIGHTS).is_file() and (directory / _WEIGHTS_INDEX).is_file():
        files = _read_json(directory / _WEIGHTS_INDEX).get("weight_map", {})
        return sorted({file for tensor, file in files.items() if tensor.startswith(prefix)})
    return [_WEIGHTS]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StartupError(f"ENCODER_MODEL: {path} is not JSON ({error}); download the checkpoint again.") from error
    return document if isinstance(document, dict) else {}
