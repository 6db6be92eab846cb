"""A chart that contains this one several times, each under another alias."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.chart import helm, manifests
from tests.chart.helm import CHART, RESUME_SECRET, Rendered

# In the first line of each document.
_SOURCE = re.compile(r"^# Source: umbrella/charts/([^/]+)/", re.MULTILINE)


def write(directory: Path, aliases: Iterable[str]) -> Path:
    """The chart's directory."""
    shutil.copytree(CHART, directory / "charts" / "video-analysis")
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    dependencies = [
        {"name": "video-analysis", "version": version, "alias": alias, "condition": f"{alias}.enabled"}
        for alias in aliases
    ]
    chart = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": dependencies}
    (directory / "Chart.yaml").write_text(json.dumps(chart))
    return directory


def render(
    directory: Path, values: Mapping[str, Mapping[str, Any]], *, set_name: str = "local", release: str = "va"
) -> dict[str, Rendered]:
    """The objects by alias: of a set of values with the changes in `values`."""
    chart = write(directory, values)
    file, given = helm.VALUES[set_name]
    base = yaml.safe_load((CHART / file).read_text()) if file else {}
    base = helm.merged(base, helm.merged({"resumeTokens": {"existingSecret": RESUME_SECRET}}, given))
    ended = helm.run(
        "template",
        changes={alias: helm.merged(base, own) for alias, own in values.items()},
        chart=chart,
        release=release,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Rendered] = {}
    for document in re.split(r"^---$", ended.stdout, flags=re.MULTILINE):
        if source := _SOURCE.search(document):
            found.setdefault(source[1], Rendered()).extend(manifests.load(document))
    return found
