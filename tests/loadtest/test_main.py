"""The commands, as a user gives them, against a stack of real processes."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from loadtest.__main__ import app
from loadtest.baseline import comparison
from loadtest.sweep.record import read_requests, read_samples
from tests import processes
from tests.test_cli import Up, environment, up
from videoanalysis.stack import source_tree

GHZ = Path(sys.executable).with_name("ghz")
SMALL_STACK = ["--encoders", "2", "--image-size", "32", "--service-ms", "5"]


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "140"})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture
def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


def test_a_sweep_measures_closed_and_open_levels_level_by_level(running, tmp_path):
    out = tmp_path / "run"
    ended = command(
        *("sweep", running.state["address"], "--concurrency", 2, "--rate", 4, "--arrivals", "fixed", "--duration", 2),
        *("--method", "stream", "--connections", 2, "--slo", "p95=60s", "--slo", "errors=0", "--no-report"),
        *("--out", out),
    )
    assert ended.exit_code == 0, ended.output
    requests = read_requests(out)
    assert {request.status for request in requests} == {"OK"}
    assert len([request for request in requests if request.level == "4 a second"]) == 8
    # The service's own figures agree with the latency of the caller.
    assert all(0 < request.server_total_ms <= request.latency_ms for request in requests)
    assert all(0 < request.first_chunk_ms < request.latency_ms for request in requests)
    assert all(request.accelerator_seconds > 0 for request in requests)
    found = summary(out)
    assert found["ending"] == "complete"
    assert found["model"]["engine"] == "synthetic"
    assert [level["failed"] for level in found["levels"]] == [0, 0]
    assert found["levels"][1]["offered_rate"] == pytest.approx(4, rel=1e-3)
    for level in found["levels"]:
        parts = [value for name, value in level["stages_ms"].items() if name not in ("server_total", "outside")]
        assert sum(parts) == pytest.approx(level["stages_ms"]["server_total"], rel=0.02)
    assert "p95=60s at 2 at a time" in ended.output


def test_a_missed_objective_ends_with_3(running, tmp_path):
    ended = command(
        *("sweep", running.state["address"], "--concurrency", 1, "--duration", 30, "--requests", 2),
        *("--slo", "p95=1ms", "--no-report", "--out", tmp_path / "run"),
    )
    assert ended.exit_code == 3
    assert "MISSED" in ended.output


def test_a_video_that_the_service_cannot_read_ends_the_sweep_before_any_load(running, tmp_path):
    ended = command("sweep", running.state["address"], "--concurrency", 2, "--video", "s3://videoanalysis/none.mp4")
    assert ended.exit_code == 65
    assert "s3://videoanalysis/none.mp4" in ended.output
    assert "no such object" in ended.output


def until_answered(process: subprocess.Popen) -> None:
    """Until the sweep reports its first answer."""
    assert process.stderr is not None
    while " 1 answered" not in process.stderr.readline():
        assert process.poll() is None


def test_ctrl_c_keeps_the_measurements_and_writes_the_report(running, tmp_path):
    out = tmp_path / "run"
    options = ["--concurrency", "2", "--duration", "600", "--out", str(out), "--every", "0.2"]
    with subprocess.Popen(
        [sys.executable, "-m", "loadtest", "sweep", running.state["address"], *options],
        cwd=source_tree.ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until_answered(process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "The run is incomplete: interrupted" in stdout
    assert summary(out)["ending"] == "interrupted"
    assert read_requests(out)
    assert "in_flight" in {sample.series for sample in read_samples(out)}
    assert "The run is incomplete" in (out / "report.html").read_text()
    assert (out / "latency_over_time.png").read_bytes().startswith(b"\x89PNG")


def test_a_stack_whose_encoder_dies_ends_the_sweep_and_keeps_the_measurements(tmp_path):
    out = tmp_path / "run"
    options = ["--concurrency", "2", "--duration", "600", "--every", "0.2", "--out", str(out), "--no-report"]
    with subprocess.Popen(
        [sys.executable, "-m", "loadtest", "sweep", "--stack", *options, *SMALL_STACK],
        cwd=source_tree.ROOT,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until_answered(process)
        services = processes.descendants(process.pid)
        encoder = next(pid for pid in services if "services.encoder" in psutil.Process(pid).cmdline())
        psutil.Process(encoder).kill()
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "encoder-" in stderr
    assert "was killed by SIGKILL" in stderr
    assert not any(processes.runs(pid) for pid in services)
    assert "The run is incomplete: broke off" in stdout
    assert read_requests(out)
    series = {sample.series for sample in read_samples(out)}
    assert {"queue.ingress", "queue.encoder", "ready.encoder", "cpu_seconds.ingress", "machine_cpu"} <= series


def test_the_load_test_of_the_baseline_is_compared_with_its_published_figures(tmp_path):
    ended = command(
        *("baseline", "--factor", 0.05, "--concurrency", "1,2", "--duration", 3, "--encoders", 2),
        *("--ingresses", 1, "--decoders", 1, "--image-size", 32, "--no-report", "--out", tmp_path / "run"),
    )
    assert ended.exit_code == 0, ended.output
    for column in comparison.COLUMNS[2:]:
        assert column in ended.output
    assert "152 (303)" in ended.output
    assert "The GPU is simulated" in " ".join(ended.output.split())
    level = summary(tmp_path / "run")["levels"][1]
    # Each encoder took 0.05 x 700 ms for its chunk.
    assert level["cost"]["accelerator_seconds_per_video_minute"] == pytest.approx(0.035 / 8.267 * 60, rel=0.1)
    assert level["cost"]["cpu_seconds_per_video_minute"] > 0
    assert level["series"]["ready.encoder"]["mean"] == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sweep"], "--stack"),
        (["sweep", "127.0.0.1:9", "--stack", "--concurrency", "2"], "--stack"),
        (["sweep", "127.0.0.1:9"], "--concurrency"),
        (["sweep", "localhost", "--concurrency", "2"], "host:port"),
        (["sweep", "127.0.0.1:9", "--concurrency", "2", "--slo", "p95=1"], "--slo"),
        (["sweep", "127.0.0.1:9", "--concurrency", "2", "--video", "gone.mp4"], "--video"),
        (["sweep", "127.0.0.1:9", "--concurrency", "2", "--render", "1:2"], "--stack"),
        (["sweep", "127.0.0.1:9", "--concurrency", "2", "--signals", "ingress:9091"], "--signals"),
        (["sweep", "127.0.0.1:9", "--concurrency", "2", "--kube-context", "load"], "--namespace"),
        (["baseline", "--concurrency", "two"], "--concurrency"),
    ],
)
def test_an_invalid_option_is_named_in_one_sentence(arguments, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = command(*arguments)
    assert ended.exit_code == 2
    assert ended.output.startswith("error: ")
    assert named in ended.output
    assert ended.output.count("\n") == 1


def test_a_directory_that_holds_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    ended = command("sweep", "127.0.0.1:9", "--concurrency", 2, "--out", tmp_path)
    assert ended.exit_code == 2
    assert "holds a run already" in ended.output


def test_an_unreachable_address_is_named(unused_address, tmp_path):
    ended = command("sweep", unused_address, "--concurrency", 2, "--give-up-after", 0.5, "--out", tmp_path)
    assert ended.exit_code == 1
    assert f"no connection to {unused_address}" in ended.output


def test_a_missing_page_of_signals_ends_the_sweep_before_any_load(running, unused_address, tmp_path):
    page = f"http://{unused_address}/scaling"
    ended = command("sweep", running.state["address"], "--concurrency", 2, "--signals", page, "--out", tmp_path)
    assert ended.exit_code == 1
    assert page in ended.output


def test_a_report_of_a_directory_without_a_run_names_the_file(tmp_path):
    ended = command("report", tmp_path)
    assert ended.exit_code == 1
    assert "summary.json" in ended.output


# --- ghz and locust with the project's files.


def ghz(running: Up, config: str, out: Path, *options: str) -> dict:
    if not GHZ.exists() and shutil.which("go") is None:
        pytest.skip("ghz is not installed, and Go is not there to build it: `make tools` needs Go")
    arguments = ["--config", f"loadtest/ghz/{config}.json", "--connections", "2", "--skipFirst", "0"]
    command = [GHZ, *arguments, "-O", "json", "-o", out, *options, running.state["address"]]
    for _ in range(3):
        ended = subprocess.run(command, cwd=source_tree.ROOT, capture_output=True, text=True, timeout=60, check=False)
        # A race of ghz itself: at the end of a ramp it may close a channel that a worker still sends to.
        if "panic: send on closed channel" not in ended.stderr:
            break
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("config", ["unary", "stream", "open"])
def test_ghz_runs_with_our_configs_and_every_call_is_answered(running, config, tmp_path):
    result = ghz(running, config, tmp_path / "out.json", "-c", "2", "-z", "1s")
    assert result["statusCodeDistribution"] == {"OK": result["count"]}
    assert result["count"] >= 2
    assert result["options"]["connections"] == 2


@pytest.mark.parametrize("config", ["unary", "stream", "open", "ramp"])
def test_our_ghz_configs_write_no_file_whose_folder_may_be_missing(config):
    assert "output" not in json.loads((source_tree.ROOT / f"loadtest/ghz/{config}.json").read_text())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "-H: name the service by host:port, such as -H ingress:50051"),
        (["-H", "http://ingress:50051"], "-H: http://ingress:50051 is a URL; name the service by host:port"),
    ],
)
def test_locust_without_a_usable_host_ends_with_one_line(options, says):
    ended = subprocess.run(
        [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "-t", "1s", *options],
        cwd=source_tree.ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert says in ended.stderr.splitlines()[-1]


def test_ghz_ramps_up_with_our_config(running, tmp_path):
    steps = ["--concurrency-end", "4", "--concurrency-step-duration", "1s", "--concurrency-max-duration", "3s"]
    result = ghz(running, "ramp", tmp_path / "out.json", *steps, "-x", "3s", "-c", "4")
    assert result["statusCodeDistribution"]["OK"] >= 1


def locust(running: Up, directory: Path, *options: str) -> subprocess.CompletedProcess:
    arguments = [
        "-f",
        "loadtest/locustfile.py",
        "--headless",
        "-u",
        "2",
        "-r",
        "2",
        "-t",
        "3s",
        "--stop-timeout",
        "30",
        "--json",
    ]
    arguments += ["--stop-timeout", "30", "--json"]
    written = ["--csv", str(directory / "locust"), "--html", str(directory / "locust.html")]
    return subprocess.run(
        [sys.executable, "-m", "locust", *arguments, "-H", running.state["address"], *written, *options],
        cwd=source_tree.ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_locust_calls_both_methods_and_writes_its_tables(running, tmp_path):
    ended = locust(running, tmp_path, "--slo", "p95=60s", "--slo", "errors=0")
    assert ended.returncode == 0, ended.stderr
    result = {entry["method"]: entry for entry in json.loads(ended.stdout)}
    for kind in ("unary", "stream"):
        assert result[kind]["num_requests"] >= 1
        assert result[kind]["num_failures"] == 0
    # The event of a stream is fired with its last message, after the event of its first chunk.
    assert result["stream"]["min_response_time"] > result["first chunk"]["min_response_time"]
    assert "p95=60s of StreamAnalyzeVideo" in ended.stderr
    assert (tmp_path / "locust_stats.csv").exists()
    assert (tmp_path / "locust.html").exists()


def test_locust_ends_with_3_when_an_objective_is_missed(running, tmp_path):
    ended = locust(
        running, tmp_path, "--slo", "errors=0", "--video", "s3://videoanalysis/none.mp4", "-t", "1s", "Unary"
    )
    assert ended.returncode == 3, ended.stderr
    assert "NOT_FOUND OBJECT_NOT_FOUND" in ended.stderr
