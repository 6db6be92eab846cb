from services.encoder.checkpoint import resolve
from tests.encoder import random_checkpoint


def test_the_same_bytes_every_time(checkpoint_directory, tmp_path):
    random_checkpoint.write(tmp_path / "again")
    assert resolve(str(tmp_path / "again"), None).digest == resolve(str(checkpoint_directory), None).digest


def test_looks_like_the_real_one_to_the_code_that_loads_it(siglip_engine):
    model = siglip_engine.model
    assert (model.image_size, model.embedding_dim) == (96, 64)
    assert 110 < model.logit_scale < 115
    assert model.logit_bias == -16.5
