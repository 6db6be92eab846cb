"""Trains the bundled model: `python -m services.encoder.bundled.train DIRECTORY`, `--help` for the options.

SigLIP's sigmoid loss, but the target of a pair is whether the text is true of the picture, whatever it was written for.
"""

import argparse
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from services.encoder.bundled import untrained
from services.encoder.bundled.batches import Batch, Batches
from services.encoder.checkpoint import resolve

DIGEST = "DIGEST"
_LEARNING_RATE = 1e-3
_WARM_UP = 0.03
# Learning-rate factor of scale and bias: the initial scale of 10 is far too small for five features.
_CALIBRATION_RATE = 10.0
_REPORTS = 50


@dataclass(frozen=True, slots=True)
class Progress:
    step: int
    # Elapsed fraction of the training time, 0 to 1.
    elapsed: float
    loss: float


def train(network: Any, tokenizer: Any, batches: Iterator[Batch], minutes: float) -> Iterator[Progress]:
    """Train for `minutes` with a cosine learning-rate schedule; yields after every step."""
    calibration = [network.logit_scale, network.logit_bias]
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1 and parameter.numel() > 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": 0.05, "factor": 1.0},
            {"params": others, "weight_decay": 0.0, "factor": 1.0},
            {"params": calibration, "weight_decay": 0.0, "factor": _CALIBRATION_RATE},
        ],
        betas=(0.9, 0.98),
    )
    # Far faster than the other implementations on a CPU in bfloat16.
    network.set_attn_implementation("eager")
    network.train()
    started = time.monotonic()
    step, elapsed = 0, 0.0
    while elapsed < 1:
        rate = _LEARNING_RATE * min(1, elapsed / _WARM_UP + 0.01) * 0.5 * (1 + math.cos(math.pi * elapsed))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        value = loss(network, tokenizer, next(batches))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        elapsed = (time.monotonic() - started) / (60 * minutes)
        yield Progress(step, elapsed, value.item())


def loss(network: Any, tokenizer: Any, batch: Batch) -> Tensor:
    """Sum over the texts, mean over the pictures."""
    tokens = tokenizer(
        batch.texts, padding="max_length", truncation=True, max_length=untrained.CONTEXT_LENGTH, return_tensors="pt"
    )["input_ids"]
    pixels = torch.from_numpy(batch.pictures).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.autocast("cpu", torch.bfloat16):
        pictures = network.get_image_features(pixel_values=pixels).pooler_output
        texts = network.get_text_features(input_ids=tokens).pooler_output
    logits = network.logit_scale.exp() * (_unit_rows(pictures) @ _unit_rows(texts).T) + network.logit_bias
    signs = torch.from_numpy(batch.targets) * 2.0 - 1.0
    losses = -torch.nn.functional.logsigmoid(signs * logits) * torch.from_numpy(batch.mask)
    return losses.sum(dim=1).mean()


def save(network: Any, directory: Path) -> None:
    """Write the weights and their digest."""
    network.save_pretrained(directory)
    (directory / DIGEST).write_text(resolve(str(directory), None).digest + "\n")


def _unit_rows(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1)


def main() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path, help="directory of an earlier run, whose weights to train further")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    network, tokenizer = untrained.write(options.directory)
    if options.start:
        network.load_state_dict(load_file(options.start / "model.safetensors"))
    # Rendering takes about as long as a training step: it has a process of its own.
    batches = iter(DataLoader(Batches(seed=options.seed), batch_size=None, num_workers=1, prefetch_factor=8))
    recent: deque[float] = deque(maxlen=100)
    reported = 0.0
    for progress in train(network, tokenizer, batches, options.minutes):
        recent.append(progress.loss)
        if progress.elapsed >= reported:
            print(f"{progress.elapsed:4.0%}  step {progress.step}  loss {sum(recent) / len(recent):.3f}", flush=True)
            save(network, options.directory)
            reported += 1 / _REPORTS
    save(network, options.directory)


if __name__ == "__main__":
    main()
