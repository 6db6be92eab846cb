import io
import json

from rich.console import Console

from tests.scaling.snapshots import snapshot, workload
from videoanalysis.scaling import presentation
from videoanalysis.scaling.explanation import explain
from videoanalysis.scaling.snapshot import Snapshot


def shown(snapshot: Snapshot) -> str:
    output = io.StringIO()
    presentation.show(Console(file=output, width=100), snapshot, explain(snapshot))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def test_a_reader_sees_each_service_with_its_reasons_and_the_next_change():
    assert shown(snapshot(workload(2), 5, 4)) == (
        "release va in namespace videos, 10:00:00 UTC\n"
        "\n"
        "encoder   2 of 2 ready, scaled from 1 to 10\n"
        "  · 9 in all: 5 at va-ingress-0, 4 at va-ingress-1.\n"
        "  · 2 per replica: 9 / 2 = 4.5, rounded up 5.\n"
        "  → It goes up to 5 within 15 s, the HPA's period."
    )


def test_wrong_findings_are_marked_and_messages_of_the_cluster_are_no_markup():
    text = shown(snapshot(workload(10, replica_failure="[red]exceeded quota[/red]"), 31))

    assert "  ! The demand needs 16 replicas, the maximum is 10" in text
    assert "  ! Pods cannot be created: [red]exceeded quota[/red]" in text


def test_json_holds_the_same():
    at_most = snapshot(workload(10), 31)

    answer = json.loads(presentation.as_json(at_most, explain(at_most)))

    (encoder,) = answer["services"]
    assert (answer["release"], answer["namespace"], answer["healthy"]) == ("va", "videos", False)
    assert answer["at"] == "2026-05-04T10:00:00+00:00"
    assert answer["ingresses"][0]["depths"]["encoder"] == 31
    assert (encoder["demand"], encoder["target"], encoder["wanted"], encoder["expected"]) == (31, 2, 16, 10)
    assert [(each["code"], each["is_wrong"]) for each in encoder["findings"]] == [
        ("DEMAND", False),
        ("WANTED", False),
        ("AT_MAXIMUM", True),
    ]
