"""One load test from the target and its videos to the files of the run."""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict
from rich.console import Console

from loadtest.sweep.mix import Mix, Video, Wanted
from loadtest.sweep.progress import Progress
from loadtest.sweep.run import Run, write
from loadtest.sweep.service import Method, Service
from loadtest.sweep.slo import Objective
from loadtest.sweep.sweep import Measured, Plan, sweep
from loadtest.target.access import Access
from loadtest.target.clips import render
from loadtest.target.local_stack import StackOptions, sources_of, synthetic_stack
from loadtest.target.source import Source
from videoanalysis.cli import terminal
from videoanalysis.errors import ServiceError
from videoanalysis.v1.encoder_pb2 import ModelInfo

Upload = Callable[[Path], Awaitable[str]]


class Guard(Protocol):
    """Runs work, and cancels it when a process that it depends on ends."""

    def __call__(self, work: Coroutine[Any, Any, None], /) -> Coroutine[Any, Any, None]: ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """The options of a load test. Without `addresses` it starts a stack on this machine with the options `stack`."""

    plan: Plan
    wanted: Sequence[Wanted]
    addresses: Sequence[str]
    stack: StackOptions
    connections: int
    method: Method
    timeout_seconds: float
    access: Access
    sources: Sequence[Source]
    objectives: Sequence[Objective]
    directory: Path

    async def run(self, console: Console) -> Run:
        """Measure and write the run, also on an early end.

        Raises Unreachable, ServiceError, StackError, OSError.
        """
        async with AsyncExitStack() as resources:
            addresses, sources, guard, upload = self.addresses, list(self.sources), _unguarded, None
            if not addresses:
                with terminal.Activity(console) as activity:
                    stack = await resources.enter_async_context(synthetic_stack(self.stack, activity.show_step))
                addresses = [ingress.address for ingress in stack.services["ingress"]]
                sources += sources_of(stack)
                guard, upload = stack.guard, stack.upload
            service = Service(
                addresses,
                connections=self.connections,
                method=self.method,
                timeout_seconds=self.timeout_seconds,
                access=self.access,
                ready_seconds=self.plan.give_up_seconds,
            )
            await resources.enter_async_context(service)
            await service.until_ready()
            for source in sources:
                await asyncio.to_thread(source.read)
            with terminal.Activity(console) as activity:
                videos, model = await self._videos(service, upload, activity.show_step)
            return await self._measure(console, service, videos, model, sources, guard)

    async def _measure(
        self,
        console: Console,
        service: Service,
        videos: Sequence[Video],
        model: ModelInfo,
        sources: Sequence[Source],
        guard: Guard,
    ) -> Run:
        conditions = {
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": ["python", "-m", "loadtest", *sys.argv[1:]],
            "target": {
                "addresses": service.addresses,
                "connections": self.connections,
                "method": self.method,
                "timeout_seconds": self.timeout_seconds,
            },
            "stack": None if self.addresses else self.stack.described(),
            "videos": [asdict(video) for video in videos],
            "model": MessageToDict(model, preserving_proto_field_name=True),
        }
        measured = Measured()
        mix = Mix(videos, self.plan.seed)
        ending = "interrupted"
        try:
            with Progress(console, len(self.plan.levels)) as progress:
                await guard(sweep(self.plan, service, mix, sources, progress, measured))
            ending = "complete"
        except Exception as error:
            ending = f"broke off: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            raise
        finally:
            run = write(self.directory, conditions, self.objectives, measured, ending)
        return run

    async def _videos(
        self, service: Service, upload: Upload | None, report: Callable[[str], None]
    ) -> tuple[list[Video], ModelInfo]:
        """Upload the videos and analyse each once; raises ServiceError naming the video that fails."""
        videos, model = [], ModelInfo()
        with tempfile.TemporaryDirectory(prefix="videoanalysis-loadtest-") as scratch:
            for wanted in self.wanted:
                name, uri = await _located(wanted, Path(scratch), upload, report)
                report(f"analysing {name} once")
                try:
                    answer = await service.first(uri)
                except ServiceError as error:
                    raise type(error)(f"{uri}: {error.message}", reason=error.reason, field=error.field) from error
                chunks, seconds = len(answer.chunks), answer.video_duration_seconds
                videos.append(Video(name, uri, wanted.weight, chunks, seconds))
                model = answer.model
        return videos, model


async def _located(
    wanted: Wanted, scratch: Path, upload: Upload | None, report: Callable[[str], None]
) -> tuple[str, str]:
    """The name of the video and its URI, after rendering and uploading it if needed."""
    path = wanted.path
    if wanted.rendered_chunks:
        chunks = wanted.rendered_chunks
        name = f"{chunks} chunk{'' if chunks == 1 else 's'}"
        report(f"rendering a clip of {name}")
        path = await asyncio.to_thread(render, scratch / f"rendered-{chunks}.mp4", chunks)
    elif path is not None:
        name = path.name
    else:
        return wanted.uri.rpartition("/")[2] or wanted.uri, wanted.uri
    assert upload is not None
    report(f"uploading {path.name}")
    return name, await upload(path)


async def _unguarded(work: Coroutine[Any, Any, None], /) -> None:
    await work
