"""Sends hostile files to a service, one after another, and checks the outcome of each."""

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import groupby

from videoanalysis.client import AsyncClient
from videoanalysis.errors import FailedPrecondition, InvalidInput, ServiceError
from videoanalysis.selftest import clips, memory
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.canaries import AddressCanary, FileCanary
from videoanalysis.status import status_code
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import VideoAnalysis

# Makes a file available to the service under a name; returns the URI.
Upload = Callable[[str, bytes], Awaitable[str]]

# The errors with which a service may refuse a file.
_REFUSALS = (InvalidInput, FailedPrecondition)
_GOOD = "good.mp4"
SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    attack: Attack
    status: str
    reason: str
    seconds: float
    peak_bytes: int | None  # of the ingress and its workers; None on another machine
    faults: tuple[str, ...]  # what must not have happened


@dataclass(slots=True)
class Trial:
    """`pid` is that of the ingress, if it is on this machine. `seconds` is the time in which an attack must end."""

    service: AsyncClient
    upload: Upload
    address: AddressCanary
    file: FileCanary | None = None
    pid: int | None = None
    seconds: float = SECONDS
    labels: tuple[str, ...] = ("a person", "a landscape")
    on_result: Callable[[Result], None] = field(default=lambda _: None)

    async def run(self, attacks: Iterable[Attack]) -> list[Result]:
        """The results; after each family of attacks an ordinary video must give the same result as at the start.

        Raises ServiceError if that video fails before any attack.
        """
        good_uri = await self.upload(_GOOD, clips.clip("mp4"))
        expected = _outcome(await self._analyze(good_uri))
        results: list[Result] = []
        for _, family in groupby(attacks, key=lambda attack: attack.family):
            for attack in family:
                results.append(await self._attack(attack))
                self.on_result(results[-1])
            if fault := await self._harm(good_uri, expected):
                last = results[-1]
                results[-1] = Result(
                    last.attack, last.status, last.reason, last.seconds, last.peak_bytes, (*last.faults, fault)
                )
        return results

    async def _attack(self, attack: Attack) -> Result:
        uri = await self.upload(attack.name, attack.content)
        faults: list[str] = []
        status, reason = "OK", ""
        start = time.monotonic()
        async with AsyncExitStack() as stack:
            peak = await stack.enter_async_context(memory.measured(self.pid))
            try:
                await self._analyze(uri)
                if attack.must_be_refused:
                    faults.append("was analysed, although it has no pictures of its own")
            except ServiceError as error:
                status, reason = status_code(error).name, error.reason_name
                if type(error) not in _REFUSALS or error.reason == ErrorReason.DECODER_CRASHED:
                    faults.append(error.message)
        if self.address.was_contacted():
            faults.append("an address in the file was contacted")
        if self.file is not None and self.file.was_opened():
            faults.append("a file named in the file was opened")
        return Result(
            attack, status, reason, time.monotonic() - start, peak.bytes if peak is not None else None, tuple(faults)
        )

    async def _harm(self, good_uri: str, expected: object) -> str | None:
        try:
            return (
                None
                if _outcome(await self._analyze(good_uri)) == expected
                else "an ordinary video gives another result"
            )
        except ServiceError as error:
            return f"an ordinary video fails: {error.message}"

    async def _analyze(self, uri: str) -> VideoAnalysis:
        return await self.service.analyze(uri, labels=self.labels, timeout_seconds=self.seconds)


def _outcome(analysis: VideoAnalysis) -> object:
    return analysis.video_duration_seconds, tuple((tag.text, round(tag.score, 4)) for tag in analysis.tags)
