from pathlib import Path

import pytest

from services.ingress.admission import read_policy
from services.ingress.admission.policy import Permissions, Policy
from videoanalysis.errors import PermissionDenied
from videoanalysis.v1.analysis_pb2 import PRIORITY_BATCH, PRIORITY_INTERACTIVE, PRIORITY_UNSPECIFIED
from videoanalysis.v1.error_reason_pb2 import ErrorReason

EXAMPLE = """
default:
  sources: [s3://public/]
callers:
  search:
    sources: [s3://videos/search/, https://media.example.com/]
    outputs: [s3://results/search/]
    max_videos: 2
    max_waiting: 10
  archive: {batch_only: true}
  edge: {gateway: true}
"""


def read(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return read_policy(path)


def test_a_policy_gives_each_caller_its_permissions_and_others_the_default(tmp_path):
    policy = read(tmp_path, EXAMPLE)
    assert policy.of("search").max_videos == 2
    assert policy.of("search").max_waiting == 10
    assert policy.of("archive") == Permissions(batch_only=True)
    assert policy.of("edge").gateway
    assert policy.of("stranger").sources == policy.of("").sources == ["s3://public/"]


def test_without_a_default_others_are_denied(tmp_path):
    with pytest.raises(PermissionDenied):
        read(tmp_path, "callers: {search: {}}").of("stranger")
    with pytest.raises(PermissionDenied):
        read(tmp_path, "").of("stranger")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("callers: [search]", "callers: "),
        ("callers: {search: {max_videos: 0}}", "callers.search.max_videos: "),
        ("callers: {search: {max_waiting: -1}}", "callers.search.max_waiting: "),
        ("callers: {search: {buckets: [a]}}", "callers.search.buckets: "),
        ("callers: {search: {sources: [videos/]}}", "callers.search.sources.0: "),
        ("callers: {search: {sources: ['s3://videos/search']}}", "callers.search.sources.0: "),
        ("callers: {search: {sources: ['s3://']}}", "callers.search.sources.0: "),
        ("callers: {search: {sources: ['s3://videos/../']}}", "callers.search.sources.0: "),
        ("callers: {search: {outputs: ['https://host/']}}", "callers.search.outputs.0: "),
        ("callers: {search: {batch_only: often}}", "callers.search.batch_only: "),
        ("caller: {}", "caller: "),
        ("- search", "the file: "),
        ("callers:\n  search: {}\n  search: {}", "line 2: a key is there twice"),
        ("callers: {search: {}", "line 1: "),
        ("callers: !!python/object/apply:os.system ['true']", "line 1: "),
        ("callers: \x00", "not YAML"),
        ("#" * ((1 << 20) + 1), "bytes"),
    ],
)
def test_an_error_is_one_line_that_names_the_place(tmp_path, text, says):
    with pytest.raises(ValueError, match=r"policy\.yaml") as caught:
        read(tmp_path, text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


SEARCH = Permissions(
    sources=["s3://videos/search/", "https://media.example.com/", "file:///media/"], outputs=["s3://results/search/"]
)


@pytest.mark.parametrize(
    "uri",
    ["s3://videos/search/a.mp4", "s3://videos/search/a/..b/c.mp4", "https://media.example.com/a", "file:///media/a"],
)
def test_sources_under_a_prefix_are_allowed(uri):
    SEARCH.check_source(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://videos/other/a.mp4",
        "s3://videos/search",
        "s3://videos/searching/a.mp4",
        "s3://videos/search/../other/a.mp4",
        "s3://videos/search/./a.mp4",
        "s3://other/search/a.mp4",
        "https://media.example.com.evil.example/a",
        "https://media.example.com/%2e%2e/a",
        "https://media.example.com@evil.example/a",
        "http://media.example.com/a",
        "file:///media/%2e%2e/etc/passwd",
        "file:///media/..%2fetc/passwd",
        "",
    ],
)
def test_other_sources_and_dot_segments_are_denied(uri):
    with pytest.raises(PermissionDenied) as caught:
        SEARCH.check_source(uri)
    assert (caught.value.field, caught.value.reason) == ("video_uri", ErrorReason.CALLER_NOT_ALLOWED)


def test_outputs_are_checked_where_there_is_one():
    SEARCH.check_output("")
    SEARCH.check_output("s3://results/search/a.json")
    for uri in ("s3://results/a.json", "s3://results/search/../a.json"):
        with pytest.raises(PermissionDenied) as caught:
            SEARCH.check_output(uri)
        assert caught.value.field == "output_uri"


def test_the_sample_clip_is_open_to_all():
    Permissions(sources=[], outputs=[]).check_source("sample://clip")


def test_without_prefixes_the_settings_alone_decide():
    Permissions().check_source("s3://any/../thing")
    Permissions().check_output("s3://any/thing")


def test_a_batch_caller_gets_batch_and_no_interactive_slot():
    batch = Permissions(batch_only=True)
    assert batch.priority(PRIORITY_UNSPECIFIED) == batch.priority(PRIORITY_BATCH) == PRIORITY_BATCH
    with pytest.raises(PermissionDenied) as caught:
        batch.priority(PRIORITY_INTERACTIVE)
    assert caught.value.field == "priority"
    for wanted in (PRIORITY_UNSPECIFIED, PRIORITY_INTERACTIVE, PRIORITY_BATCH):
        assert Permissions().priority(wanted) == wanted


def test_the_example_of_the_documentation_is_a_policy(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "security.md").read_text(encoding="utf-8")
    example = page.partition("### The policy")[2].partition("```yaml\n")[2].partition("```")[0]
    policy = read(tmp_path, example)
    assert set(policy.callers) == {"search", "archive", "edge-gateway"}
    assert policy.of("edge-gateway").gateway
