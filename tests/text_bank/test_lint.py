import numpy as np
import pytest

from tests.decoder.samples import make_bank, unit_rows
from tests.text_bank.test_builder import DEFAULT_TEXTS
from videoanalysis.text_bank import lint as textbank_lint
from videoanalysis.text_bank.builder import read_texts
from videoanalysis.text_bank.lint import Duplicate, hints, same_embeddings, same_words


def at_cosine(row: np.ndarray, cosine: float) -> np.ndarray:
    """A unit row with this cosine to `row`, itself a unit row."""
    across = unit_rows(1, len(row), seed=11)[0].astype(float)
    across -= (across @ row) * row
    across /= np.linalg.norm(across)
    return (cosine * row + np.sqrt(1 - cosine**2) * across).astype(np.float32)


def bank_of_tags(embeddings: np.ndarray):
    tags = tuple(f"tag {number}" for number in range(len(embeddings)))
    return make_bank(
        tags=tags, tag_embeddings=embeddings, description_embeddings=unit_rows(2, embeddings.shape[1], seed=3)
    )


def test_texts_that_differ_only_in_capitals_or_spaces_are_the_same():
    tags = ["City  street", "kitchen", "city street", "KITCHEN", "city streets"]
    assert same_words(tags, ["Straße", "Strasse", "kitchen"]) == [
        Duplicate("tags", "City  street", "city street"),
        Duplicate("tags", "kitchen", "KITCHEN"),
        Duplicate("descriptions", "Straße", "Strasse"),
    ]


def test_the_texts_that_come_with_the_project_are_clean():
    tags, descriptions = (found.texts for found in read_texts(DEFAULT_TEXTS))
    assert not same_words(tags, descriptions)
    assert not hints(tags, descriptions)


def test_a_pair_over_the_limit_is_found_and_one_under_it_is_not():
    rows = unit_rows(3)
    near, less_near = at_cosine(rows[0], 0.9952), at_cosine(rows[1], 0.9948)
    (found,) = same_embeddings(bank_of_tags(np.stack([*rows, near, less_near])))
    assert (found.kind, found.first, found.second) == ("tags", "tag 0", "tag 3")
    assert found.cosine == pytest.approx(0.9952, abs=1e-5)


def test_the_length_of_rows_does_not_count():
    row = unit_rows(1)[0]
    apart, together = np.stack([row, at_cosine(row, 0.9945)]), np.stack([row, at_cosine(row, 0.9955)])
    assert not same_embeddings(bank_of_tags(apart * np.float32(1.0009)))
    assert same_embeddings(bank_of_tags(together * np.float32(0.9991)))


def test_a_tag_may_coincide_with_a_description():
    rows = unit_rows(2)
    bank = make_bank(tags=("a", "b"), tag_embeddings=rows, description_embeddings=rows)
    assert same_embeddings(bank) == []
    bank = make_bank(description_embeddings=np.stack([rows[0], rows[0]]))
    (found,) = same_embeddings(bank)
    assert (found.kind, found.first, found.second) == ("descriptions", *bank.descriptions)


def test_pairs_are_found_at_any_positions_and_listed_nearest_first():
    rows = unit_rows(2500, 64)
    rows[2400] = at_cosine(rows[3], 0.996)
    rows[1100] = at_cosine(rows[1030], 0.997)
    rows[2100] = at_cosine(rows[2099], 0.998)
    rows[1] = at_cosine(rows[0], 0.999)
    everything = np.triu(rows.astype(float) @ rows.astype(float).T, k=1)
    wanted = {(f"tag {i}", f"tag {j}") for i, j in np.argwhere(everything > textbank_lint.MAX_COSINE)}
    assert len(wanted) == 4
    found = same_embeddings(bank_of_tags(rows))
    assert {(pair.first, pair.second) for pair in found} == wanted
    assert [round(pair.cosine, 3) for pair in found] == [0.999, 0.998, 0.997, 0.996]


def test_of_a_bank_whose_texts_all_coincide_only_so_many_pairs_are_found():
    found = same_embeddings(bank_of_tags(np.repeat(unit_rows(1), 2000, axis=0)))
    assert len(found) == textbank_lint.MAX_PAIRS


def test_a_coincidence_reads_as_a_sentence():
    assert str(Duplicate("tags", "sea", "ocean", 0.99714)) == "tags: 'sea' and 'ocean' have cosine 0.9971"
    assert str(Duplicate("tags", "sea", "Sea")) == "tags: 'sea' and 'Sea' differ only in capitals or spaces"


@pytest.mark.parametrize(
    ("descriptions", "wanted"),
    [
        (["A dog", "A cat"], []),
        (["A dog.", "A cat!"], []),
        (["A dog", "A cat.", "A cow"], ["descriptions: 1 of 3 end with a punctuation mark, such as 'A cat.'"]),
        (["A dog.", "A cat?", "A cow"], ["descriptions: 1 of 3 end without a punctuation mark, such as 'A cow'"]),
    ],
)
def test_a_punctuation_mark_at_the_end_of_some_is_hinted_at(descriptions, wanted):
    assert hints(["kitchen"], descriptions) == wanted
