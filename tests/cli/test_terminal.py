import io

import pytest
from rich.console import Console

from videoanalysis.cli import terminal
from videoanalysis.errors import Overloaded, Unavailable
from videoanalysis.stack import bundled_model
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, Cut, StageTiming, Timing, Transition
from videoanalysis.v1.decoder_pb2 import CaptionScore, SceneChange, TagScore, TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.video_analysis import Progress, VideoAnalysis


def shown(answer: AnalyzeVideoResponse, video: str = "clip.mp4") -> list[str]:
    output = io.StringIO()
    terminal.show(Console(file=output, width=120), video, VideoAnalysis.from_message(answer))
    return [line.rstrip() for line in output.getvalue().splitlines()]


def news(stage: str, done: float = 0, total: float = 0) -> Progress:
    return Progress(stage, int(done), int(total), done, total)


def lines(*news: Progress) -> list[str]:
    """The lines that an activity prints about `news` without a terminal."""
    output = io.StringIO()
    with terminal.Activity(Console(file=output, width=120)) as activity:
        for progress in news:
            activity.show_progress(progress)
    return output.getvalue().splitlines()


def test_tags_are_shown_with_their_probability_and_their_maximum():
    tags = [
        TagScore(text="kitchen", score=0.12345, probability=0.876, max_probability=0.99, peak_seconds=70),
        TagScore(text="[red]hall", score=-0.02, probability=1e-9),
    ]
    first, second = (
        line.split() for line in shown(AnalyzeVideoResponse(tags=tags)) if "kitchen" in line or "hall" in line
    )
    assert first[1:5] == ["87.6%", "of", "the", "video"]
    assert first[-4:] == ["99.0%", "at", "1:10.0", "0.123"]
    assert second[0] == "[red]hall"
    assert second[1:6] == ["<", "0.1%", "of", "the", "video"]
    # Its best scene is unknown.
    assert second[-2:] != ["at", "-0.020"]


def test_on_a_narrow_terminal_each_tag_has_one_line():
    tag = TagScore(text="kitchen", score=0.12345, probability=0.876, max_probability=0.99, peak_seconds=70)
    output = io.StringIO()
    analysis = VideoAnalysis.from_message(AnalyzeVideoResponse(tags=[tag]))
    terminal.show(Console(file=output, width=60), "clip.mp4", analysis)
    (line,) = (line for line in output.getvalue().splitlines() if "kitchen" in line)
    assert line.split() == ["kitchen", *["87.6%", "of", "the", "video", "99.0%", "at", "1:10.0", "0.123"]]


def test_the_caption_is_shown_with_its_share_of_the_video_and_its_best_scene():
    caption = CaptionScore(text="Waves", probability=0.242, max_probability=0.999, peak_seconds=26.2)
    assert "“Waves” · 24.2% of the video · 99.9% at 0:26.2" in shown(AnalyzeVideoResponse(caption=caption))


def test_that_no_text_reaches_the_minimum_probability_is_stated():
    output = shown(AnalyzeVideoResponse(text_bank=TextBankInfo(name="rooms")))
    assert "no tag reaches the minimum probability" in output
    assert "no caption reaches the minimum probability" in output
    assert "no caption: no text bank" in shown(AnalyzeVideoResponse())


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3725.5, "1:02:05.5")]
)
def test_times_are_read_off_a_clock(seconds, wanted):
    headline = shown(AnalyzeVideoResponse(video_duration_seconds=seconds))[0]
    assert headline == f"clip.mp4   {wanted}, 0 chunks, 0 frames sampled"


def test_the_first_of_many_scene_changes_are_shown_and_the_others_counted():
    changes = [SceneChange(timestamp_seconds=index, score=0.5) for index in range(1, 31)]
    output = shown(AnalyzeVideoResponse(scene_changes=changes))
    assert sum(line.endswith("0.500") for line in output) == 20
    assert "and 10 more; -o json prints all" in output


def test_each_stage_has_its_queue_and_compute_time():
    timing = Timing(encode=StageTiming(queue_seconds=0.5, compute_seconds=1.25), total_seconds=2)
    output = [line.split() for line in shown(AnalyzeVideoResponse(timing=timing))]
    assert ["encode", "0.500", "s", "1.250", "s"] in output
    assert ["total", "2.000", "s"] in output


def test_model_and_bank_are_named():
    model = ModelInfo(model_id="/models/mine", digest="sha256:0123456789abcdef", precision="float32", device="cpu")
    bank = TextBankInfo(name="rooms", digest="sha256:fedcba9876543210", tags=1, descriptions=40)
    answer = AnalyzeVideoResponse(model=model, text_bank=bank, caption=CaptionScore(text="A person cooking"))
    output = "\n".join(shown(answer))
    assert "“A person cooking”" in output
    assert "mine" in output
    assert "sha256:0123456789ab " in output
    assert "1 tag, 40 descriptions" in output
    assert "mean nothing" not in output


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        (ModelInfo(engine="synthetic", model_id="synthetic"), "made-up embeddings"),
        (ModelInfo(engine="siglip", digest=bundled_model.DIGEST), "nothing in real videos"),
    ],
)
def test_results_of_a_model_that_knows_no_real_videos_carry_a_caveat(model, cause):
    assert cause in " ".join(" ".join(shown(AnalyzeVideoResponse(model=model))).split())


def test_packets_that_could_not_be_decoded_are_counted():
    assert "3 packets of the video could not be decoded" in shown(AnalyzeVideoResponse(decode_failures=3))


def test_a_file_that_ends_before_its_containers_duration_is_reported():
    cut_short = AnalyzeVideoResponse(video_duration_seconds=18, claimed_duration_seconds=40)
    assert "the file claims 0:40.0 and ends after 0:18.0: it may have been cut short" in shown(cut_short)
    rounded = AnalyzeVideoResponse(video_duration_seconds=39.5, claimed_duration_seconds=40)
    assert not any("claims" in line for line in shown(rounded))


def test_without_a_terminal_progress_is_printed_as_lines():
    analysing = [news("analyzing", done, 100) for done in range(101)]
    output = lines(news("waiting"), news("downloading", 1_500_000, 3_000_000), *analysing)
    assert output[:3] == ["waiting for a slot", "downloading 1.5 of 3.0 MB", "analysing 0 of 100 s"]
    assert output[3:] == [f"analysing {done} of 100 s" for done in (25, 50, 75, 100)]


def test_progress_of_a_video_of_unknown_length_is_shown():
    assert lines(news("analyzing", 12)) == ["analysing 12 s"]


def test_a_retry_is_shown_with_its_delay():
    output = io.StringIO()
    with terminal.Activity(Console(file=output, width=120)) as activity:
        activity.show_retry(Overloaded("256 videos are waiting already"), 4.96, 0)
        activity.show_retry(Unavailable("connection lost"), 0.2, 83.5)
    assert output.getvalue().splitlines() == [
        "256 videos are waiting already; trying again in 5.0 s",
        "connection lost; resuming at 1:23.5 in 0.2 s",
    ]


def test_the_cut_is_shown_with_the_frames_around_it():
    change = SceneChange(timestamp_seconds=3.75, previous_timestamp_seconds=3.125, cut_seconds=3.4, score=0.5)
    cut = next(line for line in shown(AnalyzeVideoResponse(scene_changes=[change])) if line.startswith("0:03.4"))
    assert cut.split() == ["0:03.4", "0:03.1", "and", "0:03.8", "0.500"]


def test_cuts_and_transitions_are_shown_in_order_of_time():
    answer = AnalyzeVideoResponse(
        cuts=[
            Cut(time_seconds=3.4, previous_frame_seconds=3.36, strength=0.314),
            Cut(time_seconds=75, previous_frame_seconds=74.5, strength=0.2, coarse=True),
        ],
        transitions=[
            Transition(start_seconds=60, end_seconds=61.5, kind=Transition.KIND_DISSOLVE),
            Transition(start_seconds=0, end_seconds=1, kind=Transition.KIND_FADE),
        ],
    )
    output = shown(answer)
    heading = next(index for index, line in enumerate(output) if line.split() == ["new", "shot", "by", "strength"])
    assert [line.split() for line in output[heading + 2 :][:4]] == [
        ["0:00.0", "to", "0:01.0", "fade"],
        ["0:03.4", "cut", "0.31"],
        ["1:00.0", "to", "1:01.5", "dissolve"],
        ["1:15.0", "coarse", "cut", "0.20"],
    ]


def test_that_there_is_no_cut_is_stated():
    assert "no cut" in shown(AnalyzeVideoResponse())


def test_the_first_of_many_cuts_are_shown_and_the_others_counted():
    output = shown(AnalyzeVideoResponse(cuts=[Cut(time_seconds=index, strength=0.5) for index in range(1, 31)]))
    assert sum(line.split()[1:] == ["cut", "0.50"] for line in output) == 20
    assert "and 10 more; -o json prints all" in output
