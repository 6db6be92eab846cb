import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from services.encoder.accelerator import Cpu, Streams


class FakeDevice:
    """Streams and events that note what is enqueued where; work is done at once, but ends when `ended` is set.

    Its clock is the number of operations so far: each takes one millisecond.
    """

    def __init__(self) -> None:
        self.operations: list[tuple[str, str]] = []  # stream, operation
        self.ended = threading.Event()
        self.ended.set()
        self.awaiting_the_end = threading.Semaphore(0)
        self._current = threading.local()
        self._streams = 0
        self._lock = threading.Lock()

    def enqueue(self, operation: str) -> int:
        with self._lock:
            self.operations.append((self._current.stream, operation))
            return len(self.operations)

    def Stream(self) -> str:
        with self._lock:
            self._streams += 1
            return f"stream {self._streams}"

    @contextmanager
    def stream(self, stream: str) -> Iterator[None]:
        self._current.stream = stream
        yield
        del self._current.stream

    def Event(self, enable_timing: bool = False) -> "FakeEvent":
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self.recorded_at = 0

    def record(self) -> None:
        self.recorded_at = self._device.enqueue("record")

    def wait(self) -> None:
        self._device.enqueue(f"wait for {self.recorded_at}")

    def synchronize(self) -> None:
        self._device.awaiting_the_end.release()
        assert self._device.ended.wait(10)

    def elapsed_time(self, end: "FakeEvent") -> float:
        return float(end.recorded_at - self.recorded_at)


def compute_on(device: FakeDevice):
    def compute(inputs: torch.Tensor) -> torch.Tensor:
        device.enqueue("compute")
        return inputs.float() * 2

    return compute


def test_each_computation_waits_for_the_one_before_whatever_the_stream():
    device = FakeDevice()
    device.ended.clear()
    streams = Streams("cpu", device)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(streams.run, [torch.ones(1)], compute_on(device)) for _ in range(2)]
        # Both are launched while neither has ended.
        for _ in calls:
            assert device.awaiting_the_end.acquire(timeout=10)
        device.ended.set()
        results = [call.result() for call in calls]
    assert [result[0].tolist() for result in results] == [[2], [2]]
    computations = [index for index, (_, operation) in enumerate(device.operations) if operation == "compute"]
    (first, second) = computations
    assert device.operations[first][0] != device.operations[second][0]
    # Between them: what marks the end of the first, and the wait of the second for that mark. Copies of the second may
    # lie between as well.
    ends = device.operations.index((device.operations[first][0], "record"), first)
    waiting = (device.operations[second][0], f"wait for {ends + 1}")  # operations are counted from 1
    assert waiting in device.operations[ends:second]


def test_a_thread_keeps_its_stream():
    device = FakeDevice()
    streams = Streams("cpu", device)
    for _ in range(2):
        streams.run([torch.ones(1)], compute_on(device))
    assert {stream for stream, _ in device.operations} == {"stream 1"}


def test_the_time_is_that_of_copies_and_computation():
    device = FakeDevice()
    _, seconds = Streams("cpu", device).run([torch.ones(1)], compute_on(device))
    names = [operation for _, operation in device.operations]
    assert names == ["record", "record", "wait for 0", "record", "compute", "record", "record"]
    # One from the first mark to the second, three from the third to the last; the wait counts for nothing.
    assert seconds == pytest.approx((1 + 3) / 1000)


def test_a_computation_that_fails_leaves_the_device_to_the_next():
    device = FakeDevice()
    streams = Streams("cpu", device)

    def fail(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        streams.run([torch.ones(1)], fail)
    assert streams.run([torch.ones(1)], compute_on(device))[0].tolist() == [2]


@pytest.mark.parametrize("accelerator", [Cpu(), Streams("cpu", FakeDevice())])
def test_inputs_are_joined_in_their_order(accelerator):
    chunks = [torch.full((count, 2), float(count)) for count in (3, 1, 2)]
    result, seconds = accelerator.run(chunks, lambda inputs: inputs + 1)
    assert np.array_equal(result, torch.cat(chunks).numpy() + 1)
    assert seconds >= 0
