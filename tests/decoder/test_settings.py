import pytest
from pydantic import ValidationError

from services.decoder.settings import DecoderSettings


def test_the_defaults_need_no_environment():
    settings = DecoderSettings()
    assert (settings.port, settings.grace_seconds, settings.banks) == (50053, 30, "")


def test_variables_carry_the_services_prefix(monkeypatch):
    monkeypatch.setenv("DECODER_BANKS", "s3://models/banks/")
    monkeypatch.setenv("DECODER_S3_ENDPOINT_URL", "")
    settings = DecoderSettings()
    assert settings.banks == "s3://models/banks/"
    assert settings.s3_endpoint_url is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("banks", "s3://"),
        ("banks", "s3://bucket"),
        ("s3_endpoint_url", "localhost:9000"),
        ("banks_refresh_seconds", 0),
        ("max_bank_bytes", 0),
        ("compute_threads", 0),
        ("port", 70_000),
    ],
)
def test_a_bad_value_is_named(field, value):
    with pytest.raises(ValidationError, match=field):
        DecoderSettings(**{field: value})
