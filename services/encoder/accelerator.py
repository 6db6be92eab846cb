"""Runs computations on a device: copies their inputs there and their results back."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Compute = Callable[[Tensor], Tensor]


class Accelerator(Protocol):
    def run(self, inputs: Sequence[Tensor], compute: Compute) -> tuple[NDArray[np.float32], float]:
        """The result of `compute` on the concatenated `inputs`, both on the host, and the seconds it took.

        Computations run one at a time, so that each ends as early as possible; waiting does not count.
        """
        ...


class Cpu:
    """One computation at a time uses all threads: two would only compete for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Tensor], compute: Compute) -> tuple[NDArray[np.float32], float]:
        with self._lock, torch.inference_mode():
            started = time.perf_counter()
            outputs = compute(_joined(inputs))
            return outputs.numpy(), time.perf_counter() - started


class Streams:
    """A stream for each calling thread: copies overlap, computations queue on the device in the order of the calls.

    The next computation is launched while the previous one runs, so the device does not wait for Python.
    `interface` is torch's module for the device: it has Stream, Event and stream.
    """

    def __init__(self, device: str = "cuda", interface: Any = torch.cuda) -> None:
        self._device = device
        self._interface = interface
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._last_done = interface.Event()

    def run(self, inputs: Sequence[Tensor], compute: Compute) -> tuple[NDArray[np.float32], float]:
        with self._interface.stream(self._stream()), torch.inference_mode():
            copying = self._mark()
            on_device = _joined([one.to(self._device, non_blocking=True) for one in inputs])
            copied = self._mark()
            with self._lock:
                self._last_done.wait()
                started = self._mark()
                outputs = compute(on_device)
                self._last_done = self._mark()
            result = outputs.cpu()
            finished = self._mark()
            finished.synchronize()
            milliseconds = copying.elapsed_time(copied) + started.elapsed_time(finished)
            return result.numpy(), milliseconds / 1000

    def _stream(self) -> Any:
        if not hasattr(self._threads, "stream"):
            self._threads.stream = self._interface.Stream()
        return self._threads.stream

    def _mark(self) -> Any:
        event = self._interface.Event(enable_timing=True)
        event.record()
        return event


def _joined(inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0] if len(inputs) == 1 else torch.cat(list(inputs))
