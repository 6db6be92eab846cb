import pytest

from videoanalysis.formatting import clock, count, model_name, percent, short_digest
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.video_analysis import Model


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0:00.0"), (59.94, "0:59.9"), (59.96, "1:00.0"), (3599.96, "1:00:00.0"), (3725.5, "1:02:05.5")],
)
def test_times_are_read_off_a_clock(seconds, expected):
    assert clock(seconds) == expected


@pytest.mark.parametrize(
    ("probability", "expected"), [(0, "0.0%"), (1e-9, "< 0.1%"), (0.001, "0.1%"), (0.8764, "87.6%"), (1, "100.0%")]
)
def test_a_small_probability_is_not_shown_as_zero(probability, expected):
    assert percent(probability) == expected


@pytest.mark.parametrize(("number", "expected"), [(0, "0 chunks"), (1, "1 chunk"), (5760, "5,760 chunks")])
def test_numbers_agree_with_their_noun(number, expected):
    assert count(number, "chunk") == expected


@pytest.mark.parametrize(("model_id", "name"), [("hub/model", "hub/model"), ("/var/models/mine", "mine")])
def test_a_model_of_a_directory_is_called_after_it(model_id, name):
    assert model_name(Model.from_message(ModelInfo(model_id=model_id))) == name


def test_of_a_digest_the_start_will_do():
    assert short_digest("sha256:0123456789abcdef") == "sha256:0123456789ab"
