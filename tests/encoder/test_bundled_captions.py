from pathlib import Path

import numpy as np

from services.encoder.bundled import captions
from services.encoder.bundled.captions import FEATURES, TAGS, Caption
from services.encoder.bundled.clip import SHOTS
from services.encoder.bundled.scenes import Scene, random_scene
from videoanalysis.text_bank.builder import read_texts

BANK = Path(__file__).parents[2] / "textbanks" / "rendered"

STAR = Scene("city", "star", "blue", "striped", "night", "drifting", seed=1)
HEART = Scene("cave", "heart", "blue", "plain", None, "swaying", seed=2)


def test_a_text_is_true_of_the_scenes_that_have_all_it_claims():
    texts = [
        Caption("blue", {"colour": "blue"}),
        Caption("a blue star", {"colour": "blue", "shape": "star"}),
        Caption("a blue star in a cave", {"colour": "blue", "shape": "star", "place": "cave"}),
        Caption("a city at night", {"place": "city", "weather": "night"}),
        Caption("by day", {"weather": "day"}),
    ]
    assert captions.truths(texts, [STAR, HEART, None]).tolist() == [
        [True, True, False, True, False],
        [True, False, False, False, False],
        [False, False, False, False, False],
    ]


def test_a_sentence_names_what_it_claims_in_plain_english():
    claims = {"place": "ocean", "shape": "arrow", "colour": "orange", "texture": "plain", "weather": "fog"}
    assert captions.sentence(claims).text == "A plain orange arrow moving over the ocean in fog"
    del claims["texture"]
    assert captions.sentence(claims).text == "An orange arrow moving over the ocean in fog"
    assert captions.sentence({"place": "mountains", "shape": "arrow"}).text == "An arrow moving over mountains"


def test_a_phrase_names_every_value_that_it_claims_and_no_other():
    random = np.random.default_rng(3)
    for _ in range(500):
        claims = captions.some_claims(random_scene(random), random)
        words = set(captions.phrase(claims, random).text.lower().rstrip(".").split())
        assert words & set(TAGS) == set(claims.values())


def test_phrases_word_the_same_claims_in_many_ways():
    random = np.random.default_rng(4)
    found = {captions.phrase({"place": "beach", "shape": "star"}, random).text for _ in range(200)}
    assert len(found) >= 15


def test_no_two_features_share_a_value():
    assert len(set(TAGS)) == len(TAGS) == sum(map(len, FEATURES.values()))


def test_the_bank_holds_the_labels_and_the_sentences_of_the_model():
    tags, descriptions = (found.texts for found in read_texts(BANK))
    assert len(tags) >= 40
    assert len(descriptions) >= 60
    assert tags == TAGS
    assert descriptions == tuple(caption.text for caption in captions.descriptions())


def test_of_every_shot_of_the_clip_one_description_is_true():
    found = captions.truths(captions.descriptions(), [shot.scene for shot in SHOTS])
    assert found.sum(axis=1).tolist() == [1] * len(SHOTS)
