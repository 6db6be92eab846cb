from collections.abc import Callable

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from services.encoder.accelerator import Compute
from services.encoder.pictures import PictureEncoder, compiled_sizes, split

SIZES = [4, 8, 16]
# Embeds a picture by its sum.
STEPS = [lambda pictures: pictures.float(), lambda pictures: pictures.sum(dim=(1, 2, 3), keepdim=True).flatten(1)]


class Compiler:
    """Records the sizes that compiled steps are called with."""

    def __init__(self) -> None:
        self.called_with: list[int] = []

    def __call__(self, step: Compute) -> Compute:
        def compiled(pictures: Tensor) -> Tensor:
            if step is STEPS[0]:
                self.called_with.append(len(pictures))
            return step(pictures)

        return compiled


def pictures(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(count, 2, 2, 3)


def run(count: int, compute: Compute) -> Tensor:
    return compute(pictures(count))


def compiled_encoder(compiler: Callable[[Compute], Compute], **options: object) -> PictureEncoder:
    encoder = PictureEncoder(STEPS, sizes=SIZES, compiler=compiler, **options)
    encoder.compile(run)
    return encoder


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9, 15, 16, 17, 40, 64])
def test_chunks_of_any_length_have_the_embeddings_that_they_have_without_compilation(count):
    encoder = compiled_encoder(Compiler())
    assert torch.equal(encoder(pictures(count)), PictureEncoder(STEPS)(pictures(count)))


def test_after_the_warm_up_only_sizes_that_were_compiled_are_computed():
    compiler = Compiler()
    encoder = compiled_encoder(compiler)
    assert compiler.called_with == SIZES
    for count in range(1, 65):
        encoder(pictures(count))
    assert set(compiler.called_with) == set(SIZES)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [4]), (4, [4]), (5, [4, 4]), (7, [8]), (9, [8, 4]), (12, [8, 4]), (13, [16]), (16, [16]), (35, [16, 16, 4])],
)
def test_pictures_are_computed_in_few_runs_with_little_padding(count, sizes):
    assert list(split(count, SIZES)) == sizes


@pytest.mark.parametrize("max_chunks", [1, 2, 3, 8])
def test_no_number_of_pictures_is_padded_by_more_than_a_third_or_three(max_chunks):
    sizes = compiled_sizes(max_chunks)
    for count in range(1, 64 * max_chunks + 1):
        computed = sum(split(count, sizes))
        assert count <= computed <= max(count + 3, count * 4 / 3)


def test_joined_chunks_are_one_run():
    assert compiled_sizes(1) == [4, 8, 16]
    for max_chunks in range(1, 9):
        assert list(split(16 * max_chunks, compiled_sizes(max_chunks))) == [16 * max_chunks]


def failing_compiler(step: Compute) -> Compute:
    raise RuntimeError("no C compiler\nTraceback of many lines")


def compiler_that_fails_at_the_first_call(step: Compute) -> Compute:
    def compiled(_: Tensor) -> Tensor:
        raise RuntimeError("no C compiler\nTraceback of many lines")

    return compiled


@pytest.mark.parametrize("compiler", [failing_compiler, compiler_that_fails_at_the_first_call])
def test_a_failed_compilation_is_one_line_in_the_log_and_pictures_are_embedded_without_it(compiler):
    with capture_logs() as lines:
        encoder = compiled_encoder(compiler)
    assert [(line["log_level"], line["error"]) for line in lines] == [("warning", "RuntimeError: no C compiler")]
    assert torch.equal(encoder(pictures(5)), PictureEncoder(STEPS)(pictures(5)))


def test_nothing_is_compiled_without_a_compiler():
    with capture_logs() as lines:
        PictureEncoder(STEPS, sizes=SIZES).compile(run)
    assert lines == []


def test_a_captured_computation_takes_the_place_of_the_compiled_one():
    captured: list[int] = []

    def capture(compute: Compute, example: Tensor) -> Compute:
        captured.append(len(example))
        return lambda given: compute(given) + 1000

    encoder = compiled_encoder(Compiler(), capture=capture)
    assert captured == SIZES
    assert torch.equal(encoder(pictures(5)), PictureEncoder(STEPS)(pictures(5)) + 1000)
