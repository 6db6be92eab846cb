"""Generated tables are in step with the code, and everything in them has a description."""

import pytest

from docs import generate
from docs.generate import command_line, metrics, settings


def test_generated_files_are_up_to_date():
    stale = [path.name for path, text in generate.generated().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: python -m docs.generate"


@pytest.mark.parametrize("service", settings.SETTINGS)
def test_every_setting_has_a_description_and_a_row(service):
    page = settings.PAGE.read_text(encoding="utf-8")
    for name, field in settings.SETTINGS[service].model_fields.items():
        assert field.description, name
        assert f"| `{service.upper()}_{name.upper()}` |" in page or f"| `…_{name.upper()}` |" in page


@pytest.mark.parametrize("service", settings.SETTINGS)
def test_every_metric_has_a_description_and_a_row(service):
    page = metrics.PAGE.read_text(encoding="utf-8")
    found = metrics.families(service)
    assert len(found) > 5
    for family in found:
        assert family.meaning.endswith("."), family.name
        assert f"| `{family.name if family.kind == 'histogram' else family.series[0]}` |" in page


def test_every_command_and_option_has_a_description():
    found = list(command_line.commands())
    assert {"videoanalysis analyze", "python -m loadtest sweep"} <= {name for name, _ in found}
    for name, command in found:
        assert command.help, name
        for written, parameter in command_line.parameters(command):
            assert parameter.help, f"{name} {written}"
