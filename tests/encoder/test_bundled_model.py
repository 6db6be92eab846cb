import hashlib
import json
from itertools import islice

import numpy as np
import pytest

from services.encoder import checkpoint, siglip
from services.encoder.bundled import evaluate, pictures
from services.encoder.bundled.captions import TAGS, descriptions
from services.encoder.bundled.clip import SHOTS
from services.encoder.bundled.scenes import render

DRAWN_AT = 192


@pytest.fixture(scope="module")
def found() -> checkpoint.Checkpoint:
    return checkpoint.resolve(str(evaluate.DIRECTORY), None)


@pytest.fixture(scope="module")
def engine(found) -> siglip.SiglipEngine:
    return siglip.load(found, device="cpu", precision="float32", torch_threads=1)


def test_the_digest_that_is_written_down_is_the_one_that_is_served(found, engine):
    written = (found.directory / "DIGEST").read_text().strip()
    assert written == found.digest == engine.model.digest


def test_the_digest_covers_the_files_that_decide_the_embeddings(found):
    names = ["config.json", "model.safetensors", "preprocessor_config.json", "spiece.model"]
    present = {path.name for path in found.directory.iterdir()}
    assert set(names) <= present
    lines = [
        f"{name}\0{hashlib.sha256((found.directory / name).read_bytes()).hexdigest()}\n"
        for name in sorted(present - {"DIGEST", "FIGURES.md"})
    ]
    assert found.digest == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_checkpoint_is_small(found):
    assert sum(path.stat().st_size for path in found.directory.iterdir()) <= 8_000_000


def test_its_tokenizer_is_that_of_siglip(found):
    configuration = json.loads((found.directory / "tokenizer_config.json").read_text())
    assert configuration["tokenizer_class"] == "SiglipTokenizer"
    assert configuration["model_max_length"] == 64
    assert configuration["model_input_names"] == ["input_ids"]


# Of the shapes in colours that training never showed them in, it knows about half.
SHAPES_KNOWN = {"new scenes of seen labels": 0.90, "unseen pairs of colour and shape": 0.35, "unseen layouts": 0.85}


@pytest.mark.parametrize("kind", evaluate.HELD_OUT)
def test_names_what_it_sees_in_scenes_that_training_held_out(engine, kind):
    random = np.random.default_rng(11)
    shown = evaluate.show(evaluate.HELD_OUT[kind](random), 120, engine.model.image_size, DRAWN_AT)
    shares = evaluate.accuracy(engine, shown)
    assert shares["place"] >= 0.95
    assert shares["weather"] >= 0.95
    assert shares["colour"] >= 0.93
    assert shares["shape"] >= SHAPES_KNOWN[kind]
    assert shares["texture"] >= 0.85


@pytest.mark.parametrize("kind", pictures.NEGATIVES)
def test_is_sure_of_nothing_in_a_picture_of_nothing(engine, kind):
    random = np.random.default_rng(12)
    shown = [pictures.NEGATIVES[kind](engine.model.image_size, random) for _ in range(60)]
    assert evaluate.highest_probability(engine, shown) < 0.3


def test_frames_of_a_scene_stay_together_and_other_places_are_far_away(engine):
    within, between = evaluate.distances(engine, np.random.default_rng(13), 40)
    assert within < 0.2
    assert between > 0.35


def test_a_text_has_the_same_embedding_alone_and_among_others(engine):
    texts = [*TAGS, *(caption.text for caption in descriptions())]
    together = engine.encode_texts(texts)
    alone = np.concatenate([engine.encode_texts([text]) for text in texts[::16]])
    assert np.abs(together[::16] - alone).max() < 1e-5


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.scene.place)
def test_finds_place_colour_and_sentence_of_every_shot_of_the_clip(engine, shot):
    times = np.linspace(shot.start + 0.5, shot.end, 8, endpoint=False)
    size = engine.model.image_size
    frames = [evaluate.shrunk(render(shot.scene, float(time), DRAWN_AT), size) for time in times]
    embedding = evaluate.embed(engine, frames).mean(axis=0)
    sentences = descriptions()
    best = sentences[int((engine.encode_texts([one.text for one in sentences]) @ embedding).argmax())]
    scene = {name: getattr(shot.scene, name) for name in best.claims}
    assert best.claims == scene
    ranking = np.argsort(-(engine.encode_texts(list(TAGS)) @ embedding))
    nearest = {TAGS[number] for number in islice(ranking, 5)}
    assert {shot.scene.place, shot.scene.colour} <= nearest
