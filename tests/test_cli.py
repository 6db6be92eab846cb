"""The command line as people and programs use it: processes, exit codes, what is printed where."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from tests import processes
from tests.decoder.samples import MODEL, make_bank
from tests.rendering import calm_picture, render, steady
from tests.test_client import Call, Service, chunk, rest, serving
from tests.text_bank.test_builder import FakeEncoder, encoder_address
from videoanalysis.errors import Unavailable
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.text_bank.format import TextBank
from videoanalysis.v1.analysis_pb2 import PRIORITY_BATCH, AnalyzeVideoResponse
from videoanalysis.v1.encoder_pb2 import EncodeTextsRequest
from videoanalysis.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("videoanalysis")
SMALL = {
    "ENCODER_SYNTHETIC_IMAGE_SIZE": "32",
    "ENCODER_SYNTHETIC_EMBEDDING_DIM": "64",
    "ENCODER_SYNTHETIC_SERVICE_MS": "1",
}


def environment(**variables: str) -> dict[str, str]:
    foreign = ("AWS_", "INGRESS_", "ENCODER_", "DECODER_", "VIDEOANALYSIS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return inherited | {"COLUMNS": "120"} | variables


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@dataclass(frozen=True)
class Up:
    process: subprocess.Popen
    directory: Path
    state_file: Path
    state: Mapping

    @property
    def s3(self) -> dict[str, str]:
        """What makes its S3 server that of the environment."""
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "thing", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.state["s3_endpoint"], **keys}

    def end(self) -> str:
        """Wait for its end; what it said on stderr."""
        _, stderr = self.process.communicate(timeout=60)
        return stderr


@contextmanager
def up(directory: Path) -> Iterator[Up]:
    """`videoanalysis up` once it has written its state; its temporary files lie in a directory of their own."""
    temporary = directory / "temporary"
    temporary.mkdir()
    state_file = directory / "state.json"
    with subprocess.Popen(
        [COMMAND, "up", "--engine", "synthetic", "--state", state_file],
        env=environment(TMPDIR=str(temporary), **SMALL),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while not state_file.exists():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
            yield Up(process, temporary, state_file, json.loads(state_file.read_text()))
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("clip") / "six seconds.mp4", steady(25, 6))


@pytest.fixture
def silent_service() -> Iterator[socket.socket]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        yield listening


def address(listening: socket.socket) -> str:
    return f"127.0.0.1:{listening.getsockname()[1]}"


def test_the_state_names_every_process_and_where_it_listens(running):
    assert set(running.state) == {"address", "s3_endpoint", "ingress", "encoder", "decoder"}
    assert running.state["address"] == running.state["ingress"][0]["address"]
    for kind in ("ingress", "encoder", "decoder"):
        (service,) = running.state[kind]
        host, port = service["address"].split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        assert f"services.{kind}" in Path(f"/proc/{service['pid']}/cmdline").read_text()


def test_json_is_all_that_is_printed(running):
    ended = run("analyze", "sample://clip", "--address", running.state["address"], "-o", "json")
    assert ended.returncode == 0
    answer = json_format.Parse(ended.stdout, AnalyzeVideoResponse())
    assert answer.tags
    assert [chunk.chunk_index for chunk in answer.chunks] == list(range(len(answer.chunks)))
    assert answer.timing.total_seconds > 0
    assert (
        ended.stderr
        == "The encoder is the synthetic engine, with made-up embeddings: tags, caption and scores mean nothing.\n"
    )


def test_people_see_all_of_the_result_and_that_it_means_nothing(running):
    ended = run("analyze", "sample://clip", "--address", running.state["address"])
    assert ended.returncode == 0
    assert "made-up embeddings" in ended.stdout
    for heading in ("tag", "probability", "scene change", "stage", "queue", "compute", "model", "text bank"):
        assert heading in ended.stdout
    for stage in ("download", "sample", "encode", "decode"):
        assert f"\n{stage} " in ended.stdout
    assert "default" in ended.stdout
    assert "analysing" in ended.stderr


def test_options_shape_the_request(running):
    options = ["--label", "a red ball", "--label", "rain", "--top-k", 1, "--frames-per-chunk", 4]
    options += ["--chunk-duration", 7, "--scene-threshold", 1.9]
    ended = run("analyze", "sample://clip", "--address", running.state["address"], "-o", "json", *options)
    answer = json_format.Parse(ended.stdout, AnalyzeVideoResponse())
    assert len(answer.tags) == 1
    assert answer.tags[0].text in ("a red ball", "rain")
    assert not answer.scene_changes
    assert answer.chunks[1].start_seconds == 7
    assert len(answer.chunks[0].frame_times_seconds) == 4
    ended = run("analyze", "sample://clip", "--address", running.state["address"], "-o", "json", "--min-probability", 1)
    assert not json_format.Parse(ended.stdout, AnalyzeVideoResponse()).tags


@pytest.fixture(scope="module")
def cut_clip(running: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a video of eight seconds with cuts at 2.6, 3.4 and 6.2 s."""
    cuts = (Fraction(26, 10), Fraction(34, 10), Fraction(62, 10))
    path = render(tmp_path_factory.mktemp("cut") / "cuts.mp4", steady(10, 8), cuts=cuts, draw=calm_picture)
    uri = "s3://videoanalysis/cuts.mp4"
    ended = run("analyze", path, "--address", running.state["address"], "--upload", uri, **running.s3)
    assert ended.returncode == 0, ended.stderr
    rows = [line.split()[:2] for line in ended.stdout.splitlines() if line.split()[1:2] == ["cut"]]
    assert rows == [["0:02.6", "cut"], ["0:03.4", "cut"], ["0:06.2", "cut"]]
    return uri


def analyzed(running: Up, *arguments: object) -> AnalyzeVideoResponse:
    ended = run("analyze", "--address", running.state["address"], "-o", "json", *arguments)
    assert ended.returncode == 0, ended.stderr
    return json_format.Parse(ended.stdout, AnalyzeVideoResponse())


def test_no_cuts_are_looked_for_where_they_are_turned_off(running, cut_clip):
    ended = run("analyze", cut_clip, "--address", running.state["address"], "--no-cuts")
    assert ended.returncode == 0, ended.stderr
    assert "no cut" in ended.stdout
    answer = analyzed(running, cut_clip, "--no-cuts")
    assert not answer.cuts
    assert not any(chunk.cuts for chunk in answer.chunks)


def test_scenes_end_at_cuts_with_the_option(running, cut_clip):
    answer = analyzed(running, cut_clip, "--scenes-by-cuts", "--scene-threshold", 2)
    assert [(scene.start_seconds, scene.end_seconds) for scene in answer.scenes] == [
        (0, 2.6),
        (2.6, 3.4),
        (3.4, 6.2),
        (6.2, 8),
    ]
    by_changes = analyzed(running, cut_clip, "--scene-threshold", 2)
    assert len(by_changes.scenes) == 1
    assert by_changes.cuts == answer.cuts


def test_of_a_range_the_cuts_inside_are_shown(running, cut_clip):
    answer = analyzed(running, cut_clip, "--start", 3, "--end", 7, "--scenes-by-cuts")
    assert [cut.time_seconds for cut in answer.cuts] == [3.4, 6.2]
    assert [(scene.start_seconds, scene.end_seconds) for scene in answer.scenes] == [(3, 3.4), (3.4, 6.2), (6.2, 7)]


def test_scenes_by_cuts_need_the_cuts():
    ended = run("analyze", "sample://clip", "--no-cuts", "--scenes-by-cuts")
    assert ended.returncode == 2
    assert ended.stderr == "error: --scenes-by-cuts: needs the cuts that --no-cuts turns off\n"


def test_a_stored_result_is_decoded_again_by_a_service_or_by_a_stack_of_its_model(running, cut_clip, tmp_path):
    stored = analyzed(running, cut_clip, "--embeddings")
    (tmp_path / "result.json").write_text(json_format.MessageToJson(stored))
    again = ["redecode", tmp_path / "result.json", "-o", "json", "--label", "rain"]
    remote = run(*again, "--address", running.state["address"])
    local = run(*again, "--engine", "synthetic", TMPDIR=str(tmp_path), **SMALL)
    answers = []
    for ended in (remote, local):
        assert ended.returncode == 0, ended.stderr
        answer = json_format.Parse(ended.stdout, AnalyzeVideoResponse())
        assert [tag.text for tag in answer.tags] == ["rain"]
        assert answer.cuts == stored.cuts
        answers.append(answer.tags[0].score)
    assert answers[0] == answers[1]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("options", [["--tls"], ["--engine", "synthetic", "--address", "127.0.0.1:9"]])
def test_options_of_redecode_that_contradict_each_other_are_usage_errors(tmp_path, options):
    (tmp_path / "result.json").write_text("{}")
    ended = run("redecode", tmp_path / "result.json", *options)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1


def test_a_file_that_the_service_cannot_read_is_an_error_with_the_remedy(running, clip):
    ended = run("analyze", clip, "--address", running.state["address"])
    assert ended.returncode == 2
    assert ended.stdout == ""
    (sentence,) = ended.stderr.splitlines()
    assert "--upload s3://" in sentence


def test_upload_puts_the_file_into_the_users_storage_first(running, clip):
    target = ["--upload", "s3://videoanalysis/uploaded.mp4", "-o", "json"]
    ended = run("analyze", clip, "--address", running.state["address"], *target, **running.s3)
    assert ended.returncode == 0, ended.stderr
    answer = json_format.Parse(ended.stdout, AnalyzeVideoResponse())
    assert answer.video_duration_seconds == pytest.approx(6)


def test_report_and_scene_lists_are_written_and_named_on_stderr(running, clip, tmp_path):
    service = ["--address", running.state["address"], "--upload", "s3://videoanalysis/reported.mp4"]
    wanted = [tmp_path / "scenes.csv", tmp_path / "scenes.otio", tmp_path / "scenes.edl", tmp_path / "report.html"]
    files = [option for path in wanted[:3] for option in ("--scenes", path)] + ["--report", wanted[3]]
    ended = run("analyze", clip, *service, *files, "--frame-rate", 50, "--chunk-duration", 2, **running.s3)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-4:] == [f"Written: {path}" for path in wanted]
    page = wanted[3].read_text()
    assert page.count("<image ") == 48
    # Scene scores were asked for.
    assert re.search(r'<path d="M[^"]+" class="curve">', page)
    assert "six seconds.mp4" in page
    assert '"rate": 50.0' in wanted[1].read_text()
    assert clip.as_uri() in wanted[1].read_text()
    assert "50 frames per second" in wanted[2].read_text()


def test_a_report_on_what_lies_elsewhere_goes_without_pictures_and_json_stays_alone(running, tmp_path):
    report = ["--report", tmp_path / "report.html", "--scene-threshold", 0.9]
    ended = run("analyze", "sample://clip", "--address", running.state["address"], "-o", "json", *report)
    assert ended.returncode == 0, ended.stderr
    json_format.Parse(ended.stdout, AnalyzeVideoResponse())
    page = (tmp_path / "report.html").read_text()
    assert "No thumbnails" in page
    assert "threshold 0.9" in page


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere.mp4"],
        ["sample://clip", "--report", "nowhere/report.html"],
        ["sample://clip", "--scenes", "nowhere/scenes.csv"],
        ["sample://clip", "--scenes", "scenes.xml"],
        ["s3://bucket/video.mp4"],
        ["sample://clip", "--upload", "s3://bucket/video.mp4"],
        ["sample://clip", "--upload", "s3://bucket/video.mp4", "--address", "127.0.0.1:9"],
        ["sample://clip", "--engine", "synthetic", "--address", "127.0.0.1:9"],
        ["sample://clip", "--engine", "synthetic", "--model", "somewhere"],
        [__file__, "--upload", "bucket/video.mp4", "--address", "127.0.0.1:9"],
    ],
)
def test_invalid_arguments_are_reported_in_one_sentence(arguments):
    ended = run("analyze", *arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (sentence,) = ended.stderr.splitlines()
    assert sentence.startswith("error: ")


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--label", ["analyze", "sample://clip", "--address", "127.0.0.1:9", "--label", "a car", "--label", "\udcff"]),
        ("--upload", ["analyze", __file__, "--address", "127.0.0.1:9", "--upload", "s3://bucket/\udcff"]),
        ("VIDEO", ["analyze", "s3://bucket/\udcff", "--address", "127.0.0.1:9"]),
        ("BANK", ["textbank", "show", "s3://bucket/\udcff"]),
    ],
)
def test_text_that_is_not_utf8_is_refused_by_the_name_of_its_option(option, arguments):
    ended = run(*arguments)  # \udcff stands for the byte ff
    assert ended.returncode == 2
    assert ended.stderr == f"error: {option}: holds bytes that are not valid UTF-8\n"


def test_an_error_of_the_service_is_one_sentence(running):
    ended = run("analyze", "s3://videoanalysis/none.mp4", "--address", running.state["address"], "--quiet")
    assert ended.returncode == 65
    assert ended.stdout == ""
    assert ended.stderr == "error: s3://videoanalysis/none.mp4: no such object or bucket\n"


def test_a_service_that_is_away_is_named():
    ended = run("analyze", "sample://clip", "--address", "127.0.0.1:9", "--quiet", "--timeout", 2)
    assert ended.returncode == 75
    assert ended.stderr.startswith("error: no answer from 127.0.0.1:9: ")
    assert len(ended.stderr.splitlines()) == 1


def test_the_time_limit_is_kept(silent_service):
    ended = run("analyze", "sample://clip", "--address", address(silent_service), "--quiet", "--timeout", 0.5)
    assert ended.returncode == 124
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.endswith("; allow more with --timeout\n")


async def test_an_interrupted_analysis_resumes_and_shows_the_position():
    first = Call([chunk(0, 0, b"one"), chunk(1, 10, b"two")], code=grpc.StatusCode.UNAVAILABLE)
    service = Service([first, Call([chunk(2, 20, b"three"), rest()])])
    async with serving(service) as address:
        ended = await asyncio.to_thread(run, "analyze", "s3://bucket/clip.mp4", "--address", address, "--batch")
    assert ended.returncode == 0
    assert "; resuming at 0:20.0 in " in ended.stderr
    assert service.tokens == [b"", b"two"]
    assert [request.priority for request in service.requests] == [PRIORITY_BATCH] * 2


def test_ctrl_c_ends_it_silently_with_exit_code_130(silent_service):
    command = [COMMAND, "analyze", "sample://clip", "--address", address(silent_service), "-o", "json"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        connection, _ = silent_service.accept()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    connection.close()
    assert process.returncode == 130
    assert output == ""


def test_analyze_without_a_service_starts_one_and_leaves_nothing(clip, tmp_path):
    ended = run("analyze", clip, "-o", "json", TMPDIR=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    answer = json_format.Parse(ended.stdout, AnalyzeVideoResponse())
    assert answer.video_duration_seconds == pytest.approx(6)
    assert answer.model.engine == "siglip"
    assert answer.caption.text
    assert "The model is the bundled one, trained on rendered scenes" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_up_ends_on_sigterm_and_leaves_nothing_not_even_a_process_that_hangs(tmp_path):
    with up(tmp_path) as running:
        started = processes.descendants(running.process.pid)
        (ingress,), (encoder,), (decoder,) = (running.state[kind] for kind in ("ingress", "encoder", "decoder"))
        assert {ingress["pid"], encoder["pid"], decoder["pid"]} < started
        os.kill(decoder["pid"], signal.SIGSTOP)
        running.process.terminate()
        while processes.runs(ingress["pid"]):
            time.sleep(0.05)
        # Not waiting for the rest as long as it would.
        running.process.terminate()
        running.end()
    assert running.process.returncode == 0
    assert not [pid for pid in started if processes.runs(pid)]
    assert not running.state_file.exists()
    assert not list(running.directory.iterdir())


def test_up_ends_when_a_process_ends_and_names_it(tmp_path):
    with up(tmp_path) as running:
        started = processes.descendants(running.process.pid)
        (decoder,) = running.state["decoder"]
        running.state_file.write_text("of another stack")
        os.kill(decoder["pid"], signal.SIGKILL)
        stderr = running.end()
    assert running.process.returncode == 1
    assert f"error: decoder-0 (process {decoder['pid']}) was killed by SIGKILL; its log ends with:\n" in stderr
    assert "Traceback" not in stderr
    assert not [pid for pid in started if processes.runs(pid)]
    assert running.state_file.read_text() == "of another stack"
    assert not list(running.directory.iterdir())


def test_up_without_the_services_names_what_is_missing(tmp_path):
    shutil.copytree(ROOT / "videoanalysis", tmp_path / "videoanalysis", ignore=shutil.ignore_patterns("__pycache__"))
    ended = subprocess.run(
        [sys.executable, "-c", "from videoanalysis.cli import main; main()", "up"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {tmp_path} has no services/")


async def test_a_bank_is_built_into_a_file_and_into_a_bucket(running, tmp_path):
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "tags.txt").write_text("kitchen\nhall\n")
    (tmp_path / "rooms" / "descriptions.txt").write_text("A person cooking\n")
    (encoder,) = running.state["encoder"]
    build = ["textbank", "build", tmp_path / "rooms", "--encoder", encoder["address"], "--out"]

    ended = run(*build, tmp_path / "rooms.safetensors")
    assert ended.returncode == 0, ended.stderr
    bank = TextBank.from_bytes((tmp_path / "rooms.safetensors").read_bytes())
    assert (bank.name, bank.template, bank.tags) == ("rooms", "{}", ("kitchen", "hall"))
    assert bank.digest in ended.stdout

    options = ["s3://videoanalysis/elsewhere/bank.safetensors", "--name", "other", "--template", "a photo of {}"]
    ended = run(*build, *options, **running.s3)
    assert ended.returncode == 0, ended.stderr
    async with Storage.open(running.state["s3_endpoint"], "us-east-1", ("any", "thing")) as storage:
        data = await storage.read(S3Uri("videoanalysis", "elsewhere/bank.safetensors"), 1 << 20)
    assert (TextBank.from_bytes(data).name, TextBank.from_bytes(data).template) == ("other", "a photo of {}")


async def test_banks_are_tried_on_stored_results(running, tmp_path):
    (encoder,) = running.state["encoder"]
    analyzed = run("analyze", "sample://clip", "--address", running.state["address"], "-o", "json", "--embeddings")
    assert analyzed.returncode == 0, analyzed.stderr
    (tmp_path / "clip.json").write_text(analyzed.stdout)
    answered = {tag["text"] for tag in json.loads(analyzed.stdout)["tags"]}
    stored = ["--embeddings", tmp_path / "clip.json"]

    old = ROOT / "textbanks" / "default"
    new = tmp_path / "rooms"
    shutil.copytree(old, new)
    tags = (new / "tags.txt").read_text()
    (new / "tags.txt").write_text("\n".join(line + " from above" * (line in answered) for line in tags.splitlines()))
    bank = tmp_path / "old.safetensors"
    ended = run("textbank", "build", old, "--encoder", encoder["address"], "--out", bank)
    assert ended.returncode == 0, ended.stderr

    ended = run("textbank", "lint", bank, *stored)
    assert ended.returncode == 0, ended.stderr
    scenes = len(json.loads(analyzed.stdout)["scenes"])
    assert f"tags, best of {scenes} scenes: " in ended.stdout
    assert f"descriptions, best of {scenes} scenes: " in ended.stdout

    ended = run("textbank", "diff", bank, bank, *stored)
    assert (ended.returncode, ended.stdout) == (0, "0 of 1 result would change\n")
    options = [*stored, "--encoder", encoder["address"], "--min-probability", "0"]
    ended = run("textbank", "diff", bank, new, *options)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("clip.json: tags ")
    assert ended.stdout.endswith("1 of 1 result would change\n")
    ended = run("textbank", "diff", bank, new, "-o", "json", *options)
    (change,) = json.loads(ended.stdout)
    before, after = change["video"]
    assert set(before["tags"]) == answered
    assert not answered & set(after["tags"])

    (tmp_path / "other.safetensors").write_bytes(make_bank().to_bytes())
    ended = run("textbank", "diff", bank, tmp_path / "other.safetensors", *stored)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "clip.json: its embeddings are of model " in ended.stderr
    ended = run("textbank", "diff", bank, new, *stored)
    assert ended.returncode == 2
    assert "--encoder" in ended.stderr


class CaseBlind(FakeEncoder):
    """To which capitals make no difference."""

    async def EncodeTexts(self, request, context):
        lowered = EncodeTextsRequest(texts=[text.lower() for text in request.texts], model_digest=request.model_digest)
        return await super().EncodeTexts(lowered, context)


async def test_texts_that_the_model_cannot_tell_apart_make_a_bank_only_by_force(tmp_path):
    (tmp_path / "tags.txt").write_text("kitchen\nturkey\nTurkey\n")
    (tmp_path / "descriptions.txt").write_text("A person cooking\n")
    out = tmp_path / "food.safetensors"
    async with encoder_address(CaseBlind()) as address:
        build = ["textbank", "build", tmp_path, "--name", "food", "--encoder", address, "--out", out]
        ended = await asyncio.to_thread(run, *build)
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"error: the model cannot distinguish some texts of {tmp_path}; ")
        assert ended.stderr.endswith("--force:\n  tags: 'turkey' and 'Turkey' have cosine 1.0000\n")
        assert not out.exists()

        ended = await asyncio.to_thread(run, *build, "--force")
        assert ended.returncode == 0, ended.stderr
        assert TextBank.from_bytes(out.read_bytes()).tags == ("kitchen", "turkey", "Turkey")

        ended = await asyncio.to_thread(run, "textbank", "lint", tmp_path, "--encoder", address)
    wanted = (
        "tags: 'turkey' and 'Turkey' differ only in capitals or spaces\n"
        "tags: 'turkey' and 'Turkey' have cosine 1.0000\n"
    )
    assert (ended.returncode, ended.stdout) == (1, wanted)
    assert ended.stderr.startswith(f"error: {tmp_path}: some texts cannot be distinguished")
    ended = await asyncio.to_thread(run, "textbank", "lint", out)
    assert (ended.returncode, ended.stdout) == (1, wanted)


def test_texts_are_checked_without_an_encoder_as_far_as_that_goes(tmp_path):
    (tmp_path / "tags.txt").write_text("kitchen\nhall\n")
    (tmp_path / "descriptions.txt").write_text("A person cooking\nA person.\n")
    ended = run("textbank", "lint", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    hint, verdict = ended.stdout.splitlines()
    assert hint == "hint: descriptions: 1 of 2 end with a punctuation mark, such as 'A person.'"
    assert verdict.startswith(f"{tmp_path}: 2 tags and 2 descriptions, all distinct; their embeddings were not ")
    (tmp_path / "tags.txt").write_text("kitchen\nhall\nhall\n")
    ended = run("textbank", "lint", tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"error: {tmp_path}/tags.txt, line 3: 'hall' is already on line 2\n"


async def test_a_bank_is_shown_to_people_and_to_programs(running, tmp_path):
    limits = np.array([0, 0.8, 0])
    bank = make_bank(tags=("kitchen", "[red] hall", "küche"), template="a photo of {}", tag_min_probabilities=limits)
    path = tmp_path / "rooms.safetensors"
    path.write_bytes(bank.to_bytes())
    ended = await asyncio.to_thread(run, "textbank", "show", path)
    assert ended.returncode == 0, ended.stderr
    for shown in (
        "default",
        bank.digest,
        bank.model_digest,
        "a photo of {}",
        bank.created_at,
        "3 tags",
        "[red] hall >= 0.8",
    ):
        assert shown in ended.stdout
    assert "2 descriptions" in ended.stdout
    assert "A person at a desk" in ended.stdout

    async with Storage.open(running.state["s3_endpoint"], "us-east-1", ("any", "thing")) as storage:
        await storage.write(S3Uri("videoanalysis", "shown.safetensors"), bank.to_bytes(), "application/octet-stream")
    ended = await asyncio.to_thread(
        lambda: run("textbank", "show", "s3://videoanalysis/shown.safetensors", "-o", "json", **running.s3)
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "name": "default",
        "digest": bank.digest,
        "model_digest": MODEL,
        "template": "a photo of {}",
        "created_at": "2026-01-31T12:00:00Z",
        "embedding_dim": 8,
        "tags": ["kitchen", "[red] hall", "küche"],
        "descriptions": ["A person cooking", "A person at a desk"],
        "tag_min_probabilities": [0, 0.8, 0],
        "description_min_probabilities": None,
    }


def test_a_file_that_is_no_bank_is_named(tmp_path):
    (tmp_path / "bank.safetensors").write_bytes(b"none")
    ended = run("textbank", "show", tmp_path / "bank.safetensors")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"error: {tmp_path}/bank.safetensors: not a safetensors file")


async def test_no_bank_is_built_by_an_encoder_of_another_model_than_requested(tmp_path):
    (tmp_path / "tags.txt").write_text("kitchen\n")
    (tmp_path / "descriptions.txt").write_text("A person cooking\n")
    out = tmp_path / "rooms.safetensors"
    async with encoder_address(FakeEncoder()) as address:
        build = ["textbank", "build", tmp_path, "--name", "rooms", "--encoder", address, "--out", out]
        ended = await asyncio.to_thread(run, *build, "--model-digest", "sha256:0000")
        assert ended.returncode == 75
        assert ended.stderr.endswith(f"serves model {MODEL}, not sha256:0000; try again later\n")
        assert not out.exists()

        ended = await asyncio.to_thread(run, *build, "--model-digest", MODEL)
        assert ended.returncode == 0, ended.stderr
        assert out.exists()


@pytest.mark.parametrize(
    ("reason", "exit_code"),
    [(ErrorReason.BANK_NOT_READY, 0), (ErrorReason.BANK_MODEL_MISMATCH, 0), (ErrorReason.ENCODER_UNAVAILABLE, 75)],
)
async def test_an_ingress_wakes_an_encoder_before_the_bank_that_it_will_need_is_built(tmp_path, reason, exit_code):
    (tmp_path / "tags.txt").write_text("kitchen\n")
    (tmp_path / "descriptions.txt").write_text("A person cooking\n")
    out = tmp_path / "rooms.safetensors"
    ingress = Service([Call(failure=Unavailable("not now", reason=reason))])
    async with serving(ingress) as woken, encoder_address(FakeEncoder()) as encoder:
        build = ["textbank", "build", tmp_path, "--encoder", encoder, "--out", out, "--wake", woken]
        ended = await asyncio.to_thread(run, *build)

    assert ended.returncode == exit_code, ended.stderr
    assert out.exists() == (exit_code == 0)
    assert [request.video_uri for request in ingress.requests] == ["sample://clip"]


async def test_a_bank_is_built_once_what_it_waits_for_is_ready(tmp_path):
    (tmp_path / "tags.txt").write_text("kitchen\n")
    (tmp_path / "descriptions.txt").write_text("A person cooking\n")
    out = tmp_path / "rooms.safetensors"
    reasons = (ErrorReason.ENCODER_UNAVAILABLE, ErrorReason.BANK_NOT_READY)
    ingress = Service([Call(failure=Unavailable("no encoder yet", reason=reason)) for reason in reasons])
    async with serving(ingress) as woken, encoder_address(FakeEncoder()) as encoder:
        build = ["textbank", "build", tmp_path, "--encoder", encoder, "--out", out, "--wake", woken, "--wait", "60"]
        ended = await asyncio.to_thread(run, *build)

    assert ended.returncode == 0, ended.stderr
    assert f"waiting up to 60 s: the ingress at {woken}: no encoder yet\n" in ended.stderr
    assert out.exists()


def test_texts_that_make_no_bank_are_reported(running, tmp_path):
    (tmp_path / "tags.txt").write_text("")
    (encoder,) = running.state["encoder"]
    ended = run("textbank", "build", tmp_path, "--encoder", encoder["address"], "--out", tmp_path / "x.safetensors")
    assert ended.returncode == 1
    assert ended.stderr == f"error: {tmp_path}/tags.txt: empty, must contain at least one text\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls"], "apply to the service at --address"),
        (["--token-file", __file__], "apply to the service at --address"),
        (["--address", "a:1", "--cert", __file__], "--cert and --key belong together"),
        (["--address", "a:1", "--ca", __file__], "holds no PEM certificate"),
        (["--address", "a:1", "--ca", "/none"], "/none"),
        (["--address", "a:1", "--token-file", "/none"], "--token-file: "),
    ],
)
def test_options_of_identity_that_cannot_be_used_are_usage_errors(options, says):
    ended = run("analyze", "sample://clip", *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr


def test_starts_without_what_only_the_services_need():
    heavy = {"torch", "av", "moto", "aiobotocore", "numpy"}
    program = f"import sys, videoanalysis.cli; print(sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.strip() == "[]"
