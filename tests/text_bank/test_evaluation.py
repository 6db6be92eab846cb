"""Winners and changes against what the decoder's ranking gives for the same scenes."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.decoder import ranking
from services.decoder.ranking import Texts
from tests.decoder.samples import make_bank, unit_rows
from tests.text_bank.results import result, write
from videoanalysis.text_bank.evaluation import Answer, changes, wins
from videoanalysis.text_bank.format import TextBank
from videoanalysis.text_bank.stored_scenes import StoredScenes, read_result


def scenes_near(directory: Path, rows: np.ndarray) -> StoredScenes:
    """A scene of two seconds for each of `rows`."""
    return read_result(
        write(directory / "video.json", result(np.repeat(rows, 2, axis=0), cuts=[*range(2, 2 * len(rows), 2)]))
    )


def bank_of(seed: int, tags: int, descriptions: int, *, limited: bool) -> TextBank:
    draw = np.random.default_rng(seed)
    return make_bank(
        tags=tuple(f"tag {i}" for i in range(tags)),
        descriptions=tuple(f"description {i}" for i in range(descriptions)),
        tag_embeddings=unit_rows(tags, seed=seed),
        description_embeddings=unit_rows(descriptions, seed=seed + 1),
        tag_min_probabilities=draw.uniform(0, 0.5, tags) if limited else None,
        description_min_probabilities=draw.uniform(0, 0.5, descriptions) if limited else None,
    )


def decoded(bank: TextBank, scenes: StoredScenes, top_k: int) -> list[Answer]:
    """As the decoder answers each scene."""
    tag_list = Texts(bank.tags, bank.tag_embeddings, bank.tag_min_probabilities)
    caption_list = Texts(bank.descriptions, bank.description_embeddings, bank.description_min_probabilities)
    answers = []
    for tags, captions in zip(
        ranking.rank(scenes.embeddings, tag_list, 100, scenes.calibration),
        ranking.rank(scenes.embeddings, caption_list, 100, scenes.calibration),
        strict=True,
    ):
        best_tags = [match.text for match in ranking.likely(tags, tag_list, None)[:top_k]]
        best_captions = [match.text for match in ranking.likely(captions, caption_list, None)[:1]]
        answers.append(Answer(tuple(best_tags), next(iter(best_captions), None)))
    return answers


@given(seed=st.integers(0, 1000), limited=st.booleans())
def test_wins_and_changes_of_scenes_are_those_of_the_decoder(tmp_path_factory, seed, limited):
    scenes = scenes_near(tmp_path_factory.mktemp("result"), unit_rows(6, seed=seed))
    before, after = bank_of(seed, 9, 7, limited=limited), bank_of(seed + 50, 9, 7, limited=limited)
    old, new = decoded(before, scenes, 3), decoded(after, scenes, 3)
    (change,) = changes(before, after, [scenes], top_k=3, min_probability=0)
    times = zip(scenes.starts, scenes.ends, old, new, strict=True)
    assert list(change.scenes) == [scene for scene in times if scene[2] != scene[3]]

    tag_wins, caption_wins = wins(before, [scenes])
    firsts = [answer.tags[0] for answer in old if answer.tags]
    assert set(tag_wins.never) == set(before.tags) - set(firsts)
    assert tag_wins.without == 6 - len(firsts)
    assert set(caption_wins.never) == set(before.descriptions) - {answer.caption for answer in old}


def test_a_text_that_is_the_best_of_every_scene_is_reported(tmp_path):
    bank = make_bank()
    scenes = scenes_near(tmp_path, np.stack([bank.tag_embeddings[1]] * 3))
    tags, _ = wins(bank, [scenes, scenes])
    assert (tags.always, tags.never, tags.scenes, tags.without) == (("office",), ("kitchen", "beach"), 6, 0)
    assert str(tags) == ("tags, best of 6 scenes: always 'office'; never 'kitchen', 'beach'; none of these in 0")


def test_a_text_below_its_least_probability_does_not_win(tmp_path):
    bank = make_bank(tag_min_probabilities=np.array([0, 1.0, 1.0]))
    tags, _ = wins(bank, [scenes_near(tmp_path, bank.tag_embeddings[1:])])
    assert (tags.always, tags.never) == (("kitchen",), ("office", "beach"))


def test_the_video_is_compared_by_the_shares_of_its_scenes(tmp_path):
    bank = make_bank(
        tag_embeddings=np.eye(3, 8, dtype=np.float32), description_embeddings=np.eye(2, 8, dtype=np.float32)
    )
    renamed = make_bank(
        tags=("kitchen", "bureau", "beach"),
        tag_embeddings=bank.tag_embeddings,
        description_embeddings=bank.description_embeddings,
    )
    scenes = scenes_near(tmp_path, np.eye(8, dtype=np.float32)[[0, 1, 1]])
    (change,) = changes(bank, renamed, [scenes], top_k=5, min_probability=0.1)
    assert change.video == (
        Answer(("office", "kitchen"), "A person at a desk"),
        Answer(("bureau", "kitchen"), "A person at a desk"),
    )
    assert [scene[2:] for scene in change.scenes] == [
        (Answer(("office",), "A person at a desk"), Answer(("bureau",), "A person at a desk"))
    ] * 2
    assert change.video[0].change(change.video[1]) == "tags office, kitchen → bureau, kitchen"
    assert change.is_any
    (same,) = changes(bank, bank, [scenes], top_k=5, min_probability=0.1)
    assert not same.is_any
