"""What every service's settings have in common, and what an operator reads who got one wrong."""

from typing import Self

import pytest
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from videoanalysis.settings import ServiceSettings, read_settings


class KitchenSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="KITCHEN_")

    port: int = Field(50060, ge=0, le=65535)
    grace_seconds: float = Field(5, ge=0)
    cooks: list[int] = Field(min_length=1, description="Ages of the cooks, e.g. [31, 45].")
    plates: int = Field(4, description="As many as guests.")
    guests: int = 4
    door: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.plates < self.guests:
            raise ValueError("plates: fewer than guests")
        return self


@pytest.fixture
def complaints(monkeypatch, capsys):
    """The lines that an operator reads, given variables without their prefix."""

    def read(**variables: str) -> list[str]:
        for name, value in variables.items():
            monkeypatch.setenv(f"KITCHEN_{name}", value)
        with pytest.raises(SystemExit) as ended:
            read_settings(KitchenSettings)
        assert ended.value.code == 2
        output = capsys.readouterr()
        assert output.out == ""
        return output.err.splitlines()

    return read


def test_variables_carry_the_prefix_and_lists_are_json(monkeypatch):
    monkeypatch.setenv("KITCHEN_COOKS", "[31, 45]")
    monkeypatch.setenv("KITCHEN_PORT", "0")
    monkeypatch.setenv("PLATES", "1")
    settings = read_settings(KitchenSettings)
    assert (settings.cooks, settings.port, settings.plates) == ([31, 45], 0, 4)


def test_an_empty_variable_means_the_default(monkeypatch):
    monkeypatch.setenv("KITCHEN_COOKS", "[31]")
    monkeypatch.setenv("KITCHEN_DOOR", "")
    monkeypatch.setenv("KITCHEN_PLATES", "")
    settings = read_settings(KitchenSettings)
    assert (settings.door, settings.plates) == (None, 4)


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        KitchenSettings(cooks=[31]).port = 1


def test_every_wrong_variable_has_a_line_of_its_own_that_begins_with_its_name(complaints):
    lines = complaints(PORT="many", LOG_FORMAT="xml", GRACE_SECONDS="-1", COOKS="[31]")
    assert sorted(line.split(":")[0] for line in lines) == [
        "KITCHEN_GRACE_SECONDS",
        "KITCHEN_LOG_FORMAT",
        "KITCHEN_PORT",
    ]


def test_a_missing_variable_is_reported_with_its_description(complaints):
    assert complaints() == ["KITCHEN_COOKS: Field required (Ages of the cooks, e.g. [31, 45].)"]


def test_invalid_json_is_reported_like_any_other_error(complaints):
    lines = complaints(COOKS="anna,paul", PORT="70000")
    assert [line.split(":")[0] for line in sorted(lines)] == ["KITCHEN_COOKS", "KITCHEN_PORT"]


def test_the_place_inside_a_list_is_named(complaints):
    (line,) = complaints(COOKS='[31, "paul"]')
    assert line.startswith("KITCHEN_COOKS[1]: ")


def test_settings_that_contradict_each_other_are_reported_under_the_name_of_one(complaints):
    assert complaints(COOKS="[31]", PLATES="3") == ["KITCHEN_PLATES: fewer than guests (As many as guests.)"]


def test_a_value_may_be_a_secret_and_is_not_printed(complaints):
    assert "s3cret" not in "".join(complaints(COOKS="s3cret", PORT="s3cret"))
