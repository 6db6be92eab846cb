import json

from tests.cli.command_line import FakeService, call, serving
from videoanalysis.v1.decoder_pb2 import TextBankInfo

ROOMS = TextBankInfo(
    name="rooms",
    digest="sha256:b",
    model_digest="sha256:m",
    tags=20,
    descriptions=1040,
    created_at="2026-01-31T12:00:00Z",
)


def test_banks_are_a_table_or_json():
    with serving(FakeService(banks=[ROOMS])) as address:
        lines = call("list-banks", "--address", address).stdout.splitlines()
        listed = json.loads(call("list-banks", "--address", address, "-o", "json").stdout)
    assert lines[0].split() == ["name", "tags", "descriptions", "created", "model"]
    assert lines[2].split() == ["rooms", "20", "1,040", "2026-01-31", "sha256:m"]
    assert [(one["name"], one["tag_count"], one["model_digest"]) for one in listed] == [("rooms", 20, "sha256:m")]


def test_that_there_is_none_is_stated():
    with serving(FakeService()) as address:
        assert call("list-banks", "--address", address).stdout == "no text bank\n"
