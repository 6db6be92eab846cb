from pathlib import Path

import pytest

from services.encoder import checkpoint
from tests.encoder import random_checkpoint


@pytest.fixture(scope="session")
def checkpoint_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SigLIP with random weights; not to be changed, copy it first."""
    directory = tmp_path_factory.mktemp("checkpoint")
    random_checkpoint.write(directory)
    return directory


@pytest.fixture(scope="session")
def siglip_engine(checkpoint_directory: Path):
    from services.encoder import siglip

    found = checkpoint.resolve(str(checkpoint_directory), None)
    return siglip.load(found, device="cpu", precision="float32", torch_threads=1)
