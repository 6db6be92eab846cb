import pytest
from pydantic import ValidationError

from services.encoder.settings import EncoderSettings


def test_defaults_serve_the_real_model_with_two_chunks_in_flight():
    settings = EncoderSettings()
    assert settings.model == "google/siglip-so400m-patch14-384"
    assert (settings.port, settings.grace_seconds, settings.max_in_flight, settings.max_frames) == (50052, 60, 2, 64)


def test_reads_the_environment_under_its_prefix(monkeypatch):
    monkeypatch.setenv("ENCODER_MAX_IN_FLIGHT", "3")
    monkeypatch.setenv("ENCODER_DEVICE", "cpu")
    assert (EncoderSettings().max_in_flight, EncoderSettings().device) == (3, "cpu")


def test_an_empty_variable_means_the_default(monkeypatch):
    monkeypatch.setenv("ENCODER_REVISION", "")
    assert EncoderSettings().revision is None


def test_every_setting_has_a_description():
    assert all(field.description for field in EncoderSettings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_IN_FLIGHT", "0"),
        ("MAX_FRAMES", "65"),
        ("MAX_PARKED", "0"),
        ("PRECISION", "int8"),
        ("UPLOAD_SECONDS", "0"),
    ],
)
def test_refuses_what_is_out_of_range(monkeypatch, name, value):
    monkeypatch.setenv(f"ENCODER_{name}", value)
    with pytest.raises(ValidationError):
        EncoderSettings()


def test_no_more_chunks_can_share_a_computation_than_are_admitted(monkeypatch):
    monkeypatch.setenv("ENCODER_MAX_BATCH_CHUNKS", "3")
    with pytest.raises(ValidationError, match="ENCODER_MAX_IN_FLIGHT=2 chunks are admitted; raise that"):
        EncoderSettings()
    monkeypatch.setenv("ENCODER_MAX_IN_FLIGHT", "6")
    assert EncoderSettings().max_batch_chunks == 3
