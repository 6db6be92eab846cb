import asyncio
import json
import signal
import sys

import pytest

from tests import system
from tests.cluster import load_pod
from tests.cluster.calls import Call, Calls, interruption
from videoanalysis.client import AsyncClient

LOG = """\
{"ready": true}
some warning of a library
{"began": 10.0, "model": "sha256:a", "error": "", "ended": 12.5, "retries": []}
{"began": 11.0, "model": "sha256:b", "error": "", "ended": 14.0, "retries": ["UNAVAILABLE", "UNAVAILABLE"]}
{"began": 13.0, "model": "", "error": "Unavailable: no encoder", "ended": 15.0, "retries": []}
{"began": 14.0, "model": "sha256:a", "err"""


def test_the_log_is_parsed_into_calls():
    calls = Calls.parse(LOG)

    assert calls.calls[0] == Call(10.0, 12.5, "", "sha256:a", 0)
    assert len(calls.calls) == 3  # the last line is not complete yet
    assert calls.models == {"sha256:a", "sha256:b"}
    assert [call.error for call in calls.failed] == ["Unavailable: no encoder"]


def test_calls_that_ended_before_a_time_are_excluded():
    assert [call.began for call in Calls.parse(LOG).since(13.0).calls] == [11.0, 13.0]


def test_the_summary_lists_failures_with_their_counts():
    assert Calls.parse(LOG).summary() == "3 calls, 1 failed, 1 repeated by the client: 1 × Unavailable: no encoder"
    assert Calls.parse(LOG.splitlines()[2]).summary() == "1 calls, none failed"


@pytest.mark.parametrize(
    ("values", "ended", "problem"),
    [
        ([5, 4, 3, 2, 1], 4.0, ""),
        # The end of a call is the decoder's, and then it is over.
        ([5, 4, 3, 0, 0], 4.0, ""),
        ([5, 4, 3, 2, 0, 0, 0, 0, 0], 4.0, ""),
        ([5, 0, 3, 2, 1], 4.0, "the gauge was 0 in 1 of 5 samples, and then not"),
        ([0, 0, 3, 2, 1], 4.0, "the gauge was 0 in 2 of 5 samples, and then not"),
        ([0, 0, 0, 0, 0], 4.0, "the gauge was 0 in all 5 samples"),
        ([5, 4, 0, 0, 0, 0, 0, 0, 0], 8.0, "the gauge was 0 for the last 7.0 s of the call"),
        ([5, 4], 1.0, "only 2 samples of the gauge while the call was in progress: too few to judge"),
        # Samples after the call are ignored.
        ([5, 4, 3, 0, 2], 2.5, ""),
    ],
)
def test_a_gauge_must_not_be_zero_while_a_call_is_in_progress(values, ended, problem):
    assert interruption(enumerate(map(float, values)), ended) == problem


@pytest.mark.parametrize("kind", ["client", "unary"])
async def test_the_load_runs_until_sigterm_and_finishes_its_calls(kind, tmp_path):
    """As in the pod: its text, by `python -c`, against the services."""
    async with system.system(tmp_path) as running:
        program = load_pod.PROGRAM.read_text()
        options = json.dumps(load_pod.OPTIONS)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-u",
            "-c",
            program,
            kind,
            running.address,
            "2",
            "0",
            "60",
            options,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()

        async with AsyncClient(running.address) as client:
            expected = await client.analyze("sample://clip", **load_pod.OPTIONS)

    calls = Calls.parse(b"".join([*lines, rest]).decode())
    assert process.returncode == 0
    # Two were in progress, and at most two had begun since.
    assert 2 <= len(calls.calls) <= 5
    assert calls.failed == []
    assert calls.models == {expected.model.digest}
