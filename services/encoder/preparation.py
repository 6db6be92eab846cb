"""Converts a checkpoint into a prepared model: both towers in bfloat16, a file each, with the hashes of all files."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.encoder import towers
from services.encoder.checkpoint import Checkpoint
from services.encoder.engine import StartupError
from services.encoder.prepared import RECORD, TEXT, VISION, Record, sha256

_MIB = 1 << 20
_SPARE_BYTES = 64 * _MIB
_LOGITS = ["logit_scale", "logit_bias"]


class CannotPrepare(Exception):
    """The directory cannot be written; the message names the remedy."""


def require_writable(directory: Path, overwrite: bool) -> None:
    """Raises CannotPrepare if `directory` exists and may not be replaced."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if not (directory / RECORD).is_file():
        raise CannotPrepare(f"{directory} exists and is no prepared model; name a new directory.")
    if not overwrite:
        raise CannotPrepare(f"{directory} holds a prepared model; replace it with --overwrite or name a new directory.")


def prepare(source: Checkpoint, directory: Path, *, overwrite: bool = False, spare_bytes: int = _SPARE_BYTES) -> None:
    """Write `source` in prepared form: `directory` appears whole or not at all.

    Raises StartupError, and CannotPrepare, also if less than `spare_bytes` of the disk would stay free.
    """
    if source.record is not None:
        raise CannotPrepare(f"{source.name} is prepared already; copy it, or name the checkpoint that it was made of.")
    require_writable(directory, overwrite)
    source.start_hashing()
    files = source.weights("")
    try:
        vision, text = towers.vision_shape(source.config), towers.text_shape(source.config)
        parameters = [
            *towers.check(towers.VisionTower, vision, files, "vision_model.").parameters(),
            *towers.check(towers.TextTower, text, files, "text_model.").parameters(),
        ]
        logits = towers.scalars(files, _LOGITS)
    except Exception as error:
        raise StartupError(f"ENCODER_MODEL={source.name}: {source.directory} cannot be read ({error}).") from error
    size = sum(path.stat().st_size for path in source.configuration_files)
    size += sum(parameter.numel() * torch.bfloat16.itemsize for parameter in parameters)
    with _replacing(directory, size + spare_bytes) as partial:
        # One tower at a time in memory.
        save_file(_converted(towers.TextTower, text, files, "text_model."), partial / TEXT)
        # Scale and bias as saved: bfloat16 changes the scale by up to 2 %.
        exact = {name: torch.tensor([value]) for name, value in zip(_LOGITS, logits, strict=True)}
        save_file(_converted(towers.VisionTower, vision, files, "vision_model.") | exact, partial / VISION)
        for path in source.configuration_files:
            shutil.copyfile(path, partial / path.name)
        record = Record(
            model_id=source.model_id if source.revision else "",
            revision=source.revision,
            source=source.hashes(),
            weights={name: sha256(partial / name) for name in (VISION, TEXT)},
        )
        (partial / RECORD).write_text(record.model_dump_json(indent=2) + "\n")
        # safetensors writes files for their owner alone.
        for name in (VISION, TEXT):
            (partial / name).chmod((partial / RECORD).stat().st_mode)
        # Refuses files that have changed since they were hashed.
        source.require_intact()
        Checkpoint(source.name, "", partial).require_intact()


def _converted(
    build: Callable[[towers.ShapeT], towers.TowerT], shape: towers.ShapeT, files: list[Path], prefix: str
) -> dict[str, Tensor]:
    tower = towers.load(build, shape, files, prefix, "cpu", torch.bfloat16)
    return {prefix + name: tensor.contiguous() for name, tensor in tower.state_dict().items()}


@contextmanager
def _replacing(directory: Path, size: int) -> Iterator[Path]:
    """A new directory, which takes the place of `directory` once it is complete; removed on an error."""
    directory = directory.absolute()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory.parent).free
        if free < size:
            raise CannotPrepare(f"{directory} needs {size / _MIB:,.0f} MiB, of which {free / _MIB:,.0f} are free.")
        # On the same file system, so that renaming suffices.
        with TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as temporary:
            partial, replaced = Path(temporary, "new"), Path(temporary, "old")
            partial.mkdir()
            yield partial
            for path in [*partial.iterdir(), partial]:
                _sync(path)
            if directory.exists():
                directory.rename(replaced)
            try:
                partial.rename(directory)
            except OSError:
                if replaced.exists():
                    replaced.rename(directory)
                raise
            _sync(directory.parent)
    except OSError as error:
        raise CannotPrepare(f"{directory} cannot be written: {error.strerror or error}.") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
