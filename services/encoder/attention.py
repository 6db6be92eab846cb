"""The kernel that computes attention on CUDA."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

_log = structlog.get_logger()


def flash_attention(
    heads: int,
    positions: int,
    head_dim: int,
    dtype: torch.dtype,
    device: str = "cuda",
    usable: Callable[[Any], bool] = torch.backends.cuda.can_use_flash_attention,
) -> Callable[[], AbstractContextManager[None]]:
    """Contexts in which attention of this shape is FlashAttention or fails.

    Where it is not usable, as with float32, that is logged and torch chooses another kernel.
    """
    like = torch.empty(1, heads, positions, head_dim, dtype=dtype, device=device)
    if usable(torch.backends.cuda.SDPAParams(like, like, like, None, 0.0, False, False)):
        return lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION)
    _log.warning(
        "FlashAttention is not usable: attention takes longer",
        precision=str(dtype).removeprefix("torch."),
        head_dim=head_dim,
        advice="it needs ENCODER_PRECISION bfloat16, float16 or fp8 and compute capability 8.0",
    )
    return nullcontext
