from itertools import islice, repeat

import numpy as np
import pytest
import torch

from services.encoder import checkpoint, siglip
from services.encoder.bundled import captions, held_out, train, untrained
from services.encoder.bundled.batches import Batch, Batches
from services.encoder.bundled.captions import TAGS


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine two threads that wait for each other at every step are many times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return next(iter(Batches(seed=3)))


def test_a_batch_has_for_every_picture_the_texts_that_are_true(batch):
    pictures, texts = len(batch.pictures), len(batch.texts)
    assert batch.pictures.shape == (pictures, untrained.IMAGE_SIZE, untrained.IMAGE_SIZE, 3)
    assert batch.targets.shape == (pictures, texts)
    assert tuple(batch.texts[: len(TAGS)]) == TAGS
    tags_of_scenes = batch.targets[: Batches(seed=3).scenes, : len(TAGS)].sum(axis=1)
    # Without a place, indoors, out of doors.
    assert set(tags_of_scenes.tolist()) == {3, 4, 5}


def test_every_batch_holds_pictures_of_nothing(batch):
    assert not batch.targets[Batches(seed=3).scenes :].any()
    assert len(batch.targets) > Batches(seed=3).scenes


def test_no_text_of_a_batch_speaks_of_a_pair_that_is_held_out():
    texts = [text.lower() for drawn in islice(Batches(seed=4, scenes=4, phrases=40), 20) for text in drawn.texts]
    for colour, shape in held_out.PAIRS:
        assert not any(colour in text.split() and shape in text.rstrip(".").split() for text in texts)


def test_the_loss_is_that_of_the_sigmoid_over_all_pairs(tmp_path, batch):
    network, tokenizer = untrained.write(tmp_path)
    with torch.no_grad():
        network.logit_scale.fill_(-40.0)
        network.logit_bias.fill_(-5.0)
        found = train.loss(network, tokenizer, batch).item()
    # At such a scale nothing but the bias is left: every text is improbable of every picture.
    losses = np.where(batch.targets, np.log1p(np.exp(5)), np.log1p(np.exp(-5)))
    assert found == pytest.approx((losses * batch.mask).sum(axis=1).mean(), rel=1e-4)


def test_a_text_that_would_complete_a_held_out_pair_is_masked():
    drawn = next(iter(Batches(seed=8, scenes=60, bare=0)))
    is_red, is_ring = (drawn.targets[:, TAGS.index(value)] for value in ("red", "ring"))
    assert is_red.any()
    assert is_ring.any()
    assert np.array_equal(~drawn.mask[:, TAGS.index("ring")], is_red)
    assert np.array_equal(~drawn.mask[:, TAGS.index("red")], is_ring)
    assert not (drawn.targets & ~drawn.mask).any()


def test_a_few_steps_lower_the_loss_and_what_is_saved_can_be_served(tmp_path):
    torch.manual_seed(1)
    network, tokenizer = untrained.write(tmp_path)
    # One batch again and again: the losses of different ones differ by more than a few steps gain.
    batches = repeat(next(iter(Batches(seed=5, scenes=12, negatives=2, phrases=5))))
    losses = [progress.loss for progress in islice(train.train(network, tokenizer, batches, minutes=20), 20)]
    assert losses[-1] < 0.75 * losses[0]
    train.save(network, tmp_path)
    engine = siglip.load(checkpoint.resolve(str(tmp_path), None), device="cpu", precision="float32", torch_threads=1)
    assert engine.encode_texts(["beach"]).shape == (1, engine.model.embedding_dim)
    assert engine.model.digest == (tmp_path / train.DIGEST).read_text().strip()


def test_training_ends_when_its_time_is_over(tmp_path):
    network, tokenizer = untrained.write(tmp_path)
    small = Batches(seed=6, scenes=2, negatives=1, phrases=1)
    *_, last = train.train(network, tokenizer, iter(small), minutes=0.01)
    assert last.elapsed >= 1


def test_the_tokenizer_knows_every_word_of_the_texts(tmp_path):
    _, tokenizer = untrained.write(tmp_path)
    texts = [*TAGS, *(caption.text for caption in captions.descriptions())]
    found = tokenizer(texts, padding="max_length", max_length=untrained.CONTEXT_LENGTH)["input_ids"]
    assert {len(tokens) for tokens in found} == {untrained.CONTEXT_LENGTH}
    assert not any(tokenizer.unk_token_id in tokens for tokens in found)
    assert len({tuple(tokens) for tokens in found}) == len(texts)
