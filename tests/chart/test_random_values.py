"""Whatever values the schema allows: helm renders valid objects, or refuses with a sentence that names the key."""

import os
import re
from typing import Any

from hypothesis import Phase, given, settings

from tests.chart import helm, kinds, manifests, value_space
from tests.chart.helm import KUBERNETES

# A line of templates/_checks.tpl.
_SENTENCE = re.compile(r"^  [\w.]+:? .+\.$")
# What the checks require together, so that few examples are refused.
_BASE: dict[str, Any] = {
    "ports": {"health": 1001, "metrics": 1002, "scaling": 1003},
    "autoscaling": {"prometheus": {"authenticationRef": {"name": "prometheus"}}},
}


_MAX_EXAMPLES = os.environ.get("HYPOTHESIS_MAX_EXAMPLES")


# The same examples each time, and none made smaller, which takes minutes. More find more:
# `HYPOTHESIS_MAX_EXAMPLES=500 python -m pytest …` takes others each time.
@settings(
    max_examples=int(_MAX_EXAMPLES or 15),
    derandomize=_MAX_EXAMPLES is None,
    database=None,
    phases=[Phase.generate],
)
@given(value_space.some_values(value_space.schema()))
def test_valid_values_make_valid_objects(values: dict[str, Any]) -> None:
    ended = helm.run("template", "everything", helm.merged(_BASE, values))
    if ended.returncode:
        _, _, refusal = ended.stderr.partition("execution error at ")
        lines = [line for line in refusal.splitlines()[1:] if line.strip() and not line.startswith("Use --debug")]
        assert lines, ended.stderr
        assert all(_SENTENCE.match(line) for line in lines), ended.stderr
        return
    rendered = list(manifests.load(ended.stdout))
    assert [problem for item in rendered for problem in kinds.problems(item, KUBERNETES[-1])] == []
    names = [(item["kind"], item["metadata"]["name"]) for item in rendered]
    assert len(names) == len(set(names))
