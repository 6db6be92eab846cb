import io
from collections.abc import Callable

import pytest
from rich.console import Console

from tests.cluster import steps
from tests.cluster.steps import Failed, Outcome, Step


def succeeds() -> str:
    return "fine"


def fails() -> str:
    raise Failed("it is not there")


def carried_out(*planned: Step, on_failure: Callable[[], None] = lambda: None) -> list[Outcome]:
    ticks = iter(range(100))
    return list(
        steps.carry_out(
            planned, (Failed,), on_begin=lambda step: None, on_failure=on_failure, clock=lambda: float(next(ticks))
        )
    )


def test_each_step_has_a_result_a_time_and_a_note():
    assert carried_out(Step("one", succeeds), Step("two", fails)) == [
        Outcome("one", "passed", 1.0, "fine"),
        Outcome("two", "failed", 1.0, "it is not there"),
    ]


def test_a_failed_step_does_not_stop_the_others():
    assert [each.result for each in carried_out(Step("one", fails), Step("two", succeeds))] == ["failed", "passed"]


def test_a_failed_essential_step_skips_the_others():
    outcomes = carried_out(Step("one", fails, essential=True), Step("two", succeeds), Step("three", succeeds))

    assert [each.result for each in outcomes] == ["failed", "skipped", "skipped"]
    assert outcomes[2].note == "after “one” failed"


def test_a_failure_is_diagnosed_at_once():
    looked: list[str] = []

    carried_out(Step("one", fails), Step("two", succeeds), Step("three", fails), on_failure=lambda: looked.append("x"))

    assert looked == ["x", "x"]


def test_a_bug_ends_the_run():
    def breaks() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        carried_out(Step("one", breaks))


@pytest.mark.parametrize(
    ("results", "code"),
    [
        (["passed", "passed"], 0),
        (["passed", "failed"], 1),
        (["failed", "skipped"], 1),
        (["passed", "skipped"], 1),
        ([], 1),
    ],
)
def test_the_exit_code_is_0_only_if_every_step_passed(results, code):
    assert steps.exit_code([Outcome("", result, 0, "") for result in results]) == code


def test_the_table_has_a_row_for_each_step():
    output = io.StringIO()
    outcomes = [
        Outcome("install", "passed", 61.26, "namespace [x]"),
        Outcome("drain", "failed", 3.0, "the gauge was 0"),
        Outcome("uninstall", "skipped", 0.0, "after “drain” failed"),
    ]

    steps.show(Console(file=output, width=100), outcomes)

    rows = [line.split(maxsplit=2) for line in output.getvalue().splitlines()]
    assert ["install", "passed", "61.3   namespace [x]"] in [[cell.strip() for cell in row] for row in rows]
    assert ["uninstall", "skipped", "after “drain” failed"] in [[cell.strip() for cell in row] for row in rows]
