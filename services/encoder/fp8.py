"""Linear layers whose matrix products are computed in 8-bit floating point."""

import torch
from torch import Tensor, nn

_FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FP8).max
_SMALLEST_SCALE = 1e-12


class Unsupported(Exception):
    """The device has no scaled matrix product for fp8; the message is torch's."""


class Fp8Linear(nn.Module):
    """A linear layer with its weights rounded to fp8, a scale for each output; inputs have one for each row."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight, self._weight_scale = _rounded(linear.weight)
        self._bias = linear.bias
        self._dtype = linear.weight.dtype

    def forward(self, inputs: Tensor) -> Tensor:
        rows, scale = _rounded(inputs.reshape(-1, inputs.shape[-1]))
        outputs = torch._scaled_mm(
            rows,
            self._weight.t(),
            scale_a=scale,
            scale_b=self._weight_scale.t(),
            bias=self._bias,
            out_dtype=self._dtype,
        )
        return outputs.view(*inputs.shape[:-1], -1)


def round_layers(layers: nn.Module, device: str) -> None:
    """Replaces every linear layer inside `layers`; raises Unsupported."""
    try:
        Fp8Linear(nn.Linear(32, 32, device=device, dtype=torch.bfloat16))(
            torch.zeros(16, 32, device=device, dtype=torch.bfloat16)
        )
    except (RuntimeError, NotImplementedError) as error:
        raise Unsupported(str(error).splitlines()[0]) from error
    for module in list(layers.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, Fp8Linear(child))


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows in fp8, and the scale of each."""
    scale = (rows.abs().amax(dim=1, keepdim=True).float() / _LARGEST).clamp(min=_SMALLEST_SCALE)
    return (rows.float() / scale).to(_FP8), scale
