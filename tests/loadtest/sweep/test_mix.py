from collections import Counter

import pytest

from loadtest.errors import InvalidOption
from loadtest.sweep.mix import Mix, Video, Wanted, parse_rendered, parse_videos, parse_weights


def test_a_uri_may_have_a_weight_and_an_equals_sign_of_its_own():
    assert parse_videos(["s3://b/k.mp4=3", "sample://clip", "https://host/v?id=a", "https://host/v?id=7"]) == [
        Wanted(3, uri="s3://b/k.mp4"),
        Wanted(1, uri="sample://clip"),
        Wanted(1, uri="https://host/v?id=a"),
        # A number behind the last = is a weight.
        Wanted(7, uri="https://host/v?id"),
    ]


def test_a_local_file_is_parsed_as_its_path(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    assert parse_videos([f"{clip}=0.5"]) == [Wanted(0.5, path=clip)]


@pytest.mark.parametrize(
    "text", ["ftp://host/clip.mp4", "no such file.mp4", "s3://b/k=0", "s3://b/k=-1", "s3://b/k=inf"]
)
def test_an_invalid_video_is_named(text):
    with pytest.raises(InvalidOption, match="--video"):
        parse_videos([text])


def test_rendered_clips_are_chunks_and_weights():
    wanted = parse_rendered("1:70,6:25,60")
    assert [(one.rendered_chunks, one.weight) for one in wanted] == [(1, 70), (6, 25), (60, 1)]


@pytest.mark.parametrize("text", ["", "a", "0", "1:0", "1:-2", "1:x", "1.5", "1:nan"])
def test_malformed_weights_are_named_with_their_option(text):
    with pytest.raises(InvalidOption, match="--mix"):
        parse_weights("--mix", text)


@pytest.mark.parametrize("text", ["0:1", "1:0", "1000:1", "one:1", "1:nan"])
def test_invalid_rendered_clips_are_named(text):
    with pytest.raises(InvalidOption, match="--render"):
        parse_rendered(text)


def test_videos_are_drawn_by_weight_and_repeatably_for_a_seed():
    videos = [Video("a", "a", 7, 1, 10), Video("b", "b", 3, 6, 60)]
    drawn = [Mix(videos, seed).draw().name for seed in range(3) for _ in range(1)]
    first, again = Mix(videos, 5), Mix(videos, 5)
    names = [first.draw().name for _ in range(2000)]
    assert names == [again.draw().name for _ in range(2000)]
    # Within five standard deviations of the binomial.
    assert abs(Counter(names)["a"] - 1400) < 5 * (2000 * 0.7 * 0.3) ** 0.5
    assert set(drawn) <= {"a", "b"}
