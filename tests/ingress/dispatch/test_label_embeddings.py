import numpy as np
import pytest

from services.ingress.admission import Deadline, Demand
from services.ingress.dispatch.label_embeddings import LabelEmbeddings
from videoanalysis.errors import Unavailable
from videoanalysis.v1.encoder_pb2 import ModelInfo

SOON = Deadline.after(60)
M, MM = ModelInfo(digest="m"), ModelInfo(digest="mm")


class FakeEncoders:
    """A text's row is its length, after the model's; records the requests."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.is_unavailable = False

    async def encode_texts(self, texts, model, deadline):
        if self.is_unavailable:
            raise Unavailable("unavailable")
        self.requests.append(list(texts))
        return np.array([[len(model.digest), len(text)] for text in texts], np.float32)


async def test_a_label_is_embedded_once_for_each_model():
    encoders = FakeEncoders()
    labels = LabelEmbeddings(encoders, Demand())
    for _ in range(2):
        assert (await labels.of(["a", "bb"], M, SOON)).tolist() == [[1, 1], [1, 2]]
    assert (await labels.of(["bb", "ccc", "a"], M, SOON)).tolist() == [[1, 2], [1, 3], [1, 1]]
    assert (await labels.of(["a"], MM, SOON)).tolist() == [[2, 1]]
    assert encoders.requests == [["a", "bb"], ["ccc"], ["a"]]


async def test_those_not_used_for_longest_are_forgotten():
    encoders = FakeEncoders()
    labels = LabelEmbeddings(encoders, Demand(), max_texts=2)
    await labels.of(["a"], M, SOON)
    await labels.of(["bb"], M, SOON)
    await labels.of(["a"], M, SOON)
    await labels.of(["ccc"], M, SOON)
    await labels.of(["a"], M, SOON)
    assert encoders.requests == [["a"], ["bb"], ["ccc"]]
    await labels.of(["bb"], M, SOON)
    assert encoders.requests[-1] == ["bb"]


async def test_more_labels_than_are_kept_are_still_answered():
    labels = LabelEmbeddings(FakeEncoders(), Demand(), max_texts=2)
    texts = ["x" * length for length in range(1, 6)]
    assert (await labels.of(texts, M, SOON))[:, 1].tolist() == [1, 2, 3, 4, 5]


async def test_a_failure_is_passed_on_and_not_remembered():
    encoders = FakeEncoders()
    labels = LabelEmbeddings(encoders, Demand())
    encoders.is_unavailable = True
    with pytest.raises(Unavailable):
        await labels.of(["a"], M, SOON)
    encoders.is_unavailable = False
    assert (await labels.of(["a"], M, SOON)).tolist() == [[1, 1]]
