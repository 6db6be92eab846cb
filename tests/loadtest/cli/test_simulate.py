import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from loadtest.cli.simulate import simulate
from videoanalysis.cli.command import Command

_app = typer.Typer()
_app.command(cls=Command)(simulate)

QUICK = ["--minutes", "2", "--set", "encoder.autoscaling.minReplicas=1"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(_app, arguments)


def test_shows_a_ramp_in_the_columns_of_the_baseline():
    result = run("ramp", "--callers", "2,4", *QUICK)

    assert result.exit_code == 0
    for word in ("conc", "P95", "req/s", "/conc", "GPU-hours", "encoder replicas"):
        assert word in result.stdout


@pytest.mark.parametrize("traffic", ["poisson", "spike"])
def test_simulates_every_open_load(traffic: str):
    assert run(traffic, "--rate", "2", *QUICK).exit_code == 0


def test_replays_the_requests_of_a_sweep_with_its_service_times(tmp_path: Path):
    (tmp_path / "requests.csv").write_text(
        "request_id,start_seconds,chunks,status\n" + "".join(f"{n},{n},{1 + n % 3},OK\n" for n in range(60))
    )
    (tmp_path / "summary.json").write_text(json.dumps({"service_times": {"encode_seconds": 0.5}}))

    result = run(
        "trace",
        *("--trace", str(tmp_path / "requests.csv"), "--times", str(tmp_path / "summary.json")),
        *("--summary", str(tmp_path / "out.json")),
    )

    assert result.exit_code == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["videos"] == 60
    assert figures["p50_seconds"] > 0.5


def test_draws_a_plot(tmp_path: Path):
    assert run("spike", "--rate", "1", *QUICK, "--plot", str(tmp_path / "spike.png")).exit_code == 0

    assert (tmp_path / "spike.png").read_bytes().startswith(b"\x89PNG")


def test_a_missed_objective_sets_the_exit_code():
    assert run("poisson", "--rate", "1", *QUICK, "--slo", "p95=10s").exit_code == 0
    missed = run("poisson", "--rate", "1", *QUICK, "--slo", "p95=100ms")

    assert missed.exit_code == 3
    assert "MISSED" in missed.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ramp", "--callers", "two"], "--callers"),
        (["poisson", "--mix", "1:x"], "--mix"),
        (["poisson", "--slo", "p95"], "--slo"),
        (["poisson", "--set", "encoder.autoscaling.min=1"], "--set"),
        (["poisson", "--values", "/nowhere.yaml"], "--values"),
        (["poisson", "--time", "encoding=1"], "--time"),
        (["poisson", "--time", "encode_seconds=fast"], "--time"),
        (["poisson", "--start", "gpu.load=1"], "--start"),
        (["poisson", "--times", "/nowhere.json"], "nowhere.json"),
        (["poisson", "--plot", "/tmp/plot.bmp"], "--plot"),
        (["poisson", "--plot", "/nowhere/plot.png"], "--plot"),
        (["poisson", "--summary", "/nowhere/out.json"], "--summary"),
        (["trace"], "--trace"),
        (["trace", "--trace", "/nowhere.csv"], "nowhere.csv"),
    ],
)
def test_an_invalid_option_is_named_before_the_simulation(arguments: list[str], complaint: str):
    result = run(*arguments)

    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "GPU-hours" not in result.stdout


def test_the_start_up_times_of_a_replica_are_options(tmp_path: Path):
    def most_ready(load: str) -> float:
        out = tmp_path / f"{load}.json"
        assert (
            run("poisson", "--rate", "20", *QUICK, "--start", f"encoder.load={load}", "--summary", str(out)).exit_code
            == 0
        )
        figures: dict[str, float] = json.loads(out.read_text())
        return figures["encoder_most_ready"]

    assert most_ready("1") > 1
    assert most_ready("900") == 1
