"""Embeds pictures with the vision tower, compiled for a few numbers of pictures."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import structlog
import torch
from torch import Tensor

from services.encoder.accelerator import Compute

_FRAMES_PER_CHUNK = 16
_SMALLEST = 4
# Pictures are padded to the next size if they fill more than this share of it.
_FILLED = 0.75

_log = structlog.get_logger()


class PictureEncoder:
    """Calls `steps` one after the other: pictures, uint8 [n, height, width, 3] → embeddings, float32 [n, dimension].

    With a `compiler`, `compile` compiles them for each of `sizes`. Pictures are then computed in runs of these sizes, a
    remainder padded. `capture` turns a computation of one size into another, such as a CUDA graph.
    """

    def __init__(
        self,
        steps: Sequence[Compute],
        *,
        sizes: Sequence[int] = (),
        compiler: Callable[[Compute], Compute] | None = None,
        capture: Callable[[Compute, Tensor], Compute] | None = None,
    ) -> None:
        self._steps = steps
        self._sizes = sorted(sizes)
        self._compiler = compiler
        self._capture = capture
        self._compiled: dict[int, Compute] = {}

    def __call__(self, pictures: Tensor) -> Tensor:
        if not self._compiled:
            return _in_turn(self._steps, pictures)
        runs, start = [], 0
        for size in split(len(pictures), self._sizes):
            part = pictures[start : start + size]
            start += size
            runs.append(self._compiled[size](_padded(part, size))[: len(part)])
        return runs[0] if len(runs) == 1 else torch.cat(runs)

    def compile(self, run: Callable[[int, Compute], object]) -> None:
        """`run` calls a computation with so many pictures. Without a compiler, or if it fails, nothing is compiled."""
        if self._compiler is None:
            return
        started = time.perf_counter()
        try:
            self._compiled = self._compile([self._compiler(step) for step in self._steps], run)
        except Exception as error:
            _log.warning(
                "compilation failed: pictures are embedded without it, set ENCODER_COMPILE=off to start sooner",
                error=f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}",
            )
        else:
            _log.info("compiled", pictures=self._sizes, seconds=round(time.perf_counter() - started, 1))

    def _compile(self, steps: Sequence[Compute], run: Callable[[int, Compute], object]) -> dict[int, Compute]:
        compute = partial(_in_turn, steps)
        compiled: dict[int, Compute] = {}

        def compile_one(pictures: Tensor) -> Tensor:
            result = compute(pictures)
            compiled[len(pictures)] = self._capture(compute, pictures) if self._capture else compute
            return result

        for size in self._sizes:
            run(size, compile_one)
        return compiled


class CudaGraph:
    """A computation on pictures of one size, replayed as a whole without Python between its kernels.

    Input and output are at fixed addresses, so a call must have ended before the next one.
    """

    def __init__(self, compute: Compute, pictures: Tensor) -> None:
        self._pictures = pictures.clone()
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may copy chunks meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._embeddings = compute(self._pictures)

    def __call__(self, pictures: Tensor) -> Tensor:
        self._pictures.copy_(pictures)
        self._graph.replay()
        return self._embeddings.clone()


def compiled_sizes(max_chunks: int) -> list[int]:
    """The numbers of pictures to compile for, where up to `max_chunks` chunks of 16 are joined: doubling, and all."""
    largest = _FRAMES_PER_CHUNK * max_chunks
    return [*_doubling(_SMALLEST, largest), largest]


def split(pictures: int, sizes: Sequence[int]) -> Iterator[int]:
    """Sizes, from the ascending `sizes`, that together hold so many pictures, with little padding and few runs."""
    while pictures > 0:
        nearly_filled = (size for size in sizes if _FILLED * size < pictures <= size)
        filled = (size for size in reversed(sizes) if size <= pictures)
        yield (size := next(nearly_filled, None) or next(filled, sizes[0]))
        pictures -= size


def _doubling(first: int, limit: int) -> Iterator[int]:
    while first < limit:
        yield first
        first *= 2


def _padded(pictures: Tensor, size: int) -> Tensor:
    missing = size - len(pictures)
    return torch.cat([pictures, pictures[-1:].expand(missing, *pictures.shape[1:])]) if missing else pictures


def _in_turn(steps: Iterable[Compute], pictures: Tensor) -> Tensor:
    for step in steps:
        pictures = step(pictures)
    return pictures
