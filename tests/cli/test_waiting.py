from collections.abc import Iterator

import pytest

from videoanalysis.cli.waiting import until_ready
from videoanalysis.errors import InvalidInput, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason


class Answers:
    """A call that raises or returns one of these after the other."""

    def __init__(self, *answers: Exception | str) -> None:
        self._answers: Iterator[Exception | str] = iter(answers)

    async def __call__(self) -> str:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_call_is_repeated_until_it_succeeds_and_each_reason_is_shown_once():
    no_bank = Unavailable("no bank", reason=ErrorReason.BANK_NOT_READY)
    call = Answers(Unavailable("no pod"), Unavailable("no pod, elsewhere"), no_bank, "done")
    lines: list[str] = []
    assert await until_ready(call, 60, lines.append, pause_seconds=0) == "done"
    assert [line.partition(": ")[2] for line in lines] == ["no pod", "no bank"]
    assert lines[0].startswith("waiting up to 60 s")


async def test_without_time_to_wait_the_first_error_is_final():
    lines: list[str] = []
    with pytest.raises(Unavailable, match="no pod"):
        await until_ready(Answers(Unavailable("no pod")), 0, lines.append)
    assert lines == []


async def test_an_error_that_waiting_does_not_cure_is_raised_at_once():
    with pytest.raises(InvalidInput):
        await until_ready(Answers(InvalidInput("empty")), 60, print)
