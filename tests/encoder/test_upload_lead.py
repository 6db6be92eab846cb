import pytest

from services.encoder.upload_lead import UploadLead


def learnt(upload: float, computation: float, frames: int = 16) -> UploadLead:
    lead = UploadLead()
    for _ in range(100):  # So long alike that the deviation is nothing.
        lead.uploaded(upload, frames)
        lead.computed(computation, frames, 0.0)
    return lead


def test_while_nothing_is_known_the_next_may_come_at_once():
    assert UploadLead().next_at(5.0, None, 16) == 5.0
    half = UploadLead()
    half.uploaded(0.1, 16)
    assert half.next_at(5.0, 5.1, 16) == 5.0


def test_until_a_computation_is_known_it_takes_what_is_expected():
    lead = UploadLead()
    lead.expect(0.1, 4)
    assert lead.next_at(5.0, None, 16) == pytest.approx(5.4)
    lead.uploaded(0.016, 16)
    assert lead.next_at(5.0, 5.016, 16) == pytest.approx(5.016 + 0.4 - 3 * 0.016)
    lead.computed(0.2, 16, 5.0)
    assert lead.next_at(5.0, 5.016, 16) == pytest.approx(5.016 + 0.2 - 3 * 0.016)


def test_the_next_comes_in_time_for_its_upload_to_end_with_the_computation_before_it():
    assert learnt(0.006, 0.0226).next_at(0.0, 10.0, 16) == pytest.approx(10.0 + 0.0226 - 0.006)


def test_behind_one_that_is_still_uploading_it_comes_when_that_should_be_done():
    assert learnt(0.006, 0.0226).next_at(10.0, None, 16) == pytest.approx(10.0 + 0.0226)


def test_a_chunk_that_was_uploaded_early_begins_when_the_one_before_it_ends():
    lead = learnt(0.006, 0.0226)
    lead.computed(0.0226, 16, ended_at=10.01)
    assert lead.next_at(0.0, 10.0, 16) == pytest.approx(10.01 + 0.0226 - 0.006)


def test_a_longer_chunk_takes_longer_in_proportion():
    assert learnt(0.006, 0.0226, 16).next_at(0.0, 10.0, 64) == pytest.approx(10.0 + 4 * (0.0226 - 0.006))


def test_uploads_that_vary_are_given_more_time():
    lead = learnt(0.006, 0.0226)
    for number in range(100):
        lead.uploaded(0.003 if number % 2 else 0.009, 16)
    assert lead.next_at(0.0, 10.0, 16) < 10.0 + 0.0226 - 0.009
