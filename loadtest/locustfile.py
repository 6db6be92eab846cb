"""Callers for locust: each sends its next request after its answer.

    locust -f loadtest/locustfile.py --headless -H ingress:50051 -u 16 -r 4 -t 2m --csv build/locust \
        --html build/locust.html --video s3://bucket/clip.mp4=3 --slo p95=1200ms --slo errors=0 Unary

TLS and tokens as for `videoanalysis analyze`: --tls, --ca, --cert, --key, --token-file.

`Unary` and `Stream` at the end select the callers; without either both call. Exit code 3 if an objective was missed, 1
if requests failed and there is no objective.
"""

import logging
import secrets
import time
from argparse import Namespace
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

# Locust first: it applies gevent's patches to later imports.
from locust import User, constant, events, task

import grpc  # isort: skip
import grpc.experimental.gevent  # isort: skip

from loadtest.sweep.mix import Mix, Video, parse_videos
from loadtest.sweep.slo import EXIT_CODE_MISSED, figure, judge, parse_objective
from loadtest.target.access import Access
from videoanalysis import channels
from videoanalysis.cli import address
from videoanalysis.cli import options as cli_options
from videoanalysis.cli.failure import Failure
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, StreamAnalyzeVideoRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

# Before the first channel: otherwise one call blocks all callers of the process.
grpc.experimental.gevent.init_gevent()

_log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 300
_METHODS = ("unary", "stream")
_OPTIONS = [
    *channels.OPTIONS,
    ("grpc.max_receive_message_length", 64 << 20),
    # Otherwise channels to one address share a connection and with it a replica.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument("--video", action="append", metavar="URI[=WEIGHT]", help="Default: sample://clip.")
    parser.add_argument("--connections", type=int, default=4, help="Connections; they reach different replicas.")
    parser.add_argument("--tls", action="store_true", help="Connect with TLS; --ca and --cert do so too.")
    parser.add_argument("--ca", type=Path, help="CAs of the service's certificate, a PEM file. Default: public CAs.")
    parser.add_argument("--cert", type=Path, help="Own certificate for the service, a PEM file.")
    parser.add_argument("--key", type=Path, help="Private key of --cert, a PEM file.")
    parser.add_argument("--token-file", type=Path, help="File with the bearer token, read for every call.")
    parser.add_argument(
        "--slo", action="append", default=[], help="p95=1200ms, mean=1s, errors=0, errors=0.1%%, rate=60/s"
    )


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Any, **_: object) -> None:
    options = environment.parsed_options
    environment.objectives = [parse_objective(text) for text in options.slo]
    environment.mix = _mix(options)
    environment.access = _access(options)
    if options.headless and not options.worker:
        _check_host(environment.host)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _connect(environment: Any, **_: object) -> None:
    # With the web interface the host is set only now.
    environment.stubs = _stubs(environment.host, environment.access, environment.parsed_options.connections)


def _check_host(host: str | None) -> None:
    if not host:
        raise SystemExit("-H: name the service by host:port, such as -H ingress:50051")
    try:
        address.checked(host)
    except ValueError as error:
        raise SystemExit(f"-H: {error}") from None


def _access(options: Namespace) -> Access:
    try:
        return Access(
            cli_options.credentials(options.tls, options.ca, options.cert, options.key),
            cli_options.token(options.token_file),
        )
    except Failure as error:
        raise SystemExit(str(error)) from None


def _stubs(host: str, access: Access, connections: int) -> Iterator[VideoAnalysisServiceStub]:
    if access.credentials is None:
        ring = [grpc.insecure_channel(host, options=_OPTIONS) for _ in range(connections)]
    else:
        ring = [grpc.secure_channel(host, access.credentials, options=_OPTIONS) for _ in range(connections)]
    return cycle([VideoAnalysisServiceStub(channel) for channel in ring])  # type: ignore[no-untyped-call]


def _mix(options: Namespace) -> Mix:
    videos = parse_videos(options.video or ["sample://clip"])
    if any(not one.uri for one in videos):
        raise SystemExit("--video: must be a URI that the service can read; `python -m loadtest sweep` uploads files")
    return Mix([Video(one.uri, one.uri, one.weight, 0, 0) for one in videos], seed=1)


class _Caller(User):
    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        self._stub = next(self.environment.stubs)

    def request(self) -> AnalyzeVideoRequest:
        video = self.environment.mix.draw()
        return AnalyzeVideoRequest(video_uri=video.uri, stream_id=f"locust-{secrets.token_hex(4)}")

    def report(self, kind: str, name: str, begun: float, nbytes: int, error: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=(time.perf_counter() - begun) * 1000,
            response_length=nbytes,
            exception=error,
            context={},
        )


class Unary(_Caller):
    """Calls AnalyzeVideo."""

    @task
    def analyze(self) -> None:
        begun, nbytes, failure = time.perf_counter(), 0, None
        try:
            nbytes = self._stub.AnalyzeVideo(
                self.request(), timeout=_TIMEOUT_SECONDS, metadata=self.environment.access.metadata()
            ).ByteSize()
        except grpc.RpcError as error:
            failure = _failure(error)
        self.report("unary", "AnalyzeVideo", begun, nbytes, failure)


class Stream(_Caller):
    """Calls StreamAnalyzeVideo; reports the time to the last message and the time to the first chunk."""

    @task
    def analyze(self) -> None:
        begun, nbytes, failure, has_chunk = time.perf_counter(), 0, None, False
        request = StreamAnalyzeVideoRequest(analysis=self.request())
        try:
            for event in self._stub.StreamAnalyzeVideo(
                request, timeout=_TIMEOUT_SECONDS, metadata=self.environment.access.metadata()
            ):
                nbytes += event.ByteSize()
                if event.HasField("chunk") and not has_chunk:
                    has_chunk = True
                    self.report("first chunk", "StreamAnalyzeVideo", begun, event.ByteSize(), None)
        except grpc.RpcError as error:
            failure = _failure(error)
        self.report("stream", "StreamAnalyzeVideo", begun, nbytes, failure)


def _failure(error: grpc.RpcError) -> Exception:
    """Status and reason, by which locust groups failures; the message differs for each video."""
    return RuntimeError(f"{error.code().name} {from_rpc_error(error).reason_name}")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Any, **_: object) -> None:
    if not environment.objectives:
        return
    verdicts = []
    for entry in environment.stats.entries.values():
        if entry.method not in _METHODS:
            continue
        percentiles = {one.statistic for one in environment.objectives if one.statistic.startswith("p")}
        latency = {name: entry.get_response_time_percentile(float(name[1:]) / 100) for name in percentiles}
        latency |= {"mean": entry.avg_response_time, "max": entry.max_response_time}
        verdicts += [
            judge(
                objective,
                entry.name,
                latency=latency if entry.num_requests else {},
                errors=entry.num_failures,
                sent=entry.num_requests,
                rate=entry.total_rps,
            )
            for objective in environment.objectives
        ]
    for verdict in verdicts:
        word = "met" if verdict.is_met else "MISSED"
        _log.info("%s of %s: %s %s", verdict.objective, verdict.level, figure(verdict.value), word)
    is_met = bool(verdicts) and all(verdict.is_met for verdict in verdicts)
    environment.process_exit_code = 0 if is_met else EXIT_CODE_MISSED
