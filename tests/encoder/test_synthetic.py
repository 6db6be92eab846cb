import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.encoder.synthetic import SyntheticEngine

SIZE = 20  # Not a multiple of the eight blocks.
ENGINE = SyntheticEngine(image_size=SIZE, embedding_dim=32, service_ms=0)


def pictures(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@given(seed=st.integers(0, 2**32), count=st.integers(2, 20), data=st.data())
def test_a_picture_has_the_same_bits_in_whatever_chunk_it_comes(seed, count, data):
    frames = pictures(seed, count)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    whole, part = ENGINE.encode(frames).embeddings, ENGINE.encode(frames[start:stop]).embeddings
    assert np.array_equal(whole[start:stop], part)


@given(seed=st.integers(0, 2**32))
def test_different_pictures_differ(seed):
    first, second = ENGINE.encode(pictures(seed, 2)).embeddings
    assert first @ second < 0.9999


@given(level=st.integers(0, 255), size=st.sampled_from([8, 13, 64]))
def test_rows_have_unit_length_even_for_plain_grey(level, size):
    engine = SyntheticEngine(image_size=size, embedding_dim=48, service_ms=0)
    rows = engine.encode(np.full((3, size, size, 3), level, np.uint8)).embeddings
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_pictures_that_look_alike_are_close_and_a_cut_is_far():
    ramp = np.linspace(0, 200, SIZE)[:, np.newaxis, np.newaxis]
    scene = np.broadcast_to(ramp, (SIZE, SIZE, 3)).astype(np.uint8)
    same, cut = scene + 2, scene[::-1]
    first, second, third = ENGINE.encode(np.stack([scene, same, cut])).embeddings
    assert first @ second > 0.99
    assert first @ third < 0.85


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_a_text_has_the_same_unit_row_in_whatever_company(texts):
    together = ENGINE.encode_texts(texts)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.array_equal(together, np.concatenate([ENGINE.encode_texts([text]) for text in texts]))


def test_different_texts_differ():
    rows = ENGINE.encode_texts(["kitchen", "kitchens", "Kitchen"])
    assert np.abs(rows @ rows.T - np.eye(3)).max() < 0.9


def test_the_digest_tells_size_and_dimension_apart():
    digests = {
        SyntheticEngine(image_size=size, embedding_dim=dim, service_ms=ms).model.digest
        for size in (8, 16)
        for dim in (4, 8)
        for ms in (0, 5)
    }
    assert len(digests) == 4


def test_looks_like_siglip_on_a_cpu():
    model = ENGINE.model
    assert (model.engine, model.device, model.logit_scale, model.logit_bias) == ("synthetic", "cpu", 112.0, -16.5)


def test_chunks_take_their_time_one_after_the_other():
    engine = SyntheticEngine(image_size=8, embedding_dim=4, service_ms=80)
    frames = np.zeros((16, 8, 8, 3), np.uint8)
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        full, half = threads.map(lambda count: engine.encode(frames[:count]).compute_seconds, (16, 8))
    assert full >= 0.08
    assert half >= 0.04
    assert time.perf_counter() - started >= 0.12


def test_refuses_another_picture_size():
    with pytest.raises(ValueError, match=r"\[2, 9, 9, 3\], not \[n, 20, 20, 3\]"):
        ENGINE.encode(np.zeros((2, 9, 9, 3), np.uint8))
