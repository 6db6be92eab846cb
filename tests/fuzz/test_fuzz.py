"""A short run of `make fuzz`: twelve seconds for all targets, with changes at random that are the same every time."""

import time

import pytest

from services.decoder import validation
from services.ingress.dispatch import answers
from tests.fuzz import media, targets
from tests.fuzz.mutation import mutated

SECONDS = 0.7  # of CPU for each target
MEDIA_SECONDS = 5  # of the clock: the work is in another process


@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_others_send_is_read_or_refused(name: str) -> None:
    target = targets.TARGETS[name]
    until = time.process_time() + SECONDS
    for example in target.examples:
        target.read(example)
    for data in mutated(target.examples, seed=1):
        try:
            target.read(data)
        except Exception as error:
            raise AssertionError(f"{name}: {data!r}") from error
        if time.process_time() > until:
            break


def test_the_examples_of_messages_are_valid() -> None:
    """Otherwise a target would see little beyond the first check."""
    validation.read_chunk(targets.CHUNK)
    validation.read_ranking_request(targets.RANKING)
    answers.check_decoded(targets.DECODED, targets.CHUNK)


async def test_media_is_sampled_or_refused() -> None:
    count, findings = await media.run(MEDIA_SECONDS, seed=1)
    assert findings == []
    assert count > 10
