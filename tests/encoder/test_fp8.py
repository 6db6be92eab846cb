import pytest
import torch
from torch import nn

from services.encoder import fp8


def test_a_rounded_layer_computes_with_weights_and_inputs_of_eight_bits():
    torch.manual_seed(0)
    linear = nn.Linear(64, 48, dtype=torch.bfloat16).requires_grad_(False)
    inputs = torch.randn(2, 5, 64, dtype=torch.bfloat16)

    def simulated(rows: torch.Tensor) -> torch.Tensor:
        scale = rows.float().abs().amax(dim=-1, keepdim=True) / 448
        return (rows.float() / scale).to(torch.float8_e4m3fn).double() * scale.double()

    wanted = simulated(inputs) @ simulated(linear.weight).T + linear.bias.double()
    computed = fp8.Fp8Linear(linear)(inputs)
    assert computed.dtype == torch.bfloat16
    # What is left is the rounding of the result.
    assert ((computed.double() - wanted).abs() <= wanted.abs() * 2**-8 + 1e-3).all()
    exact = nn.functional.linear(inputs.double(), linear.weight.double(), linear.bias.double())
    assert (computed.double() - exact).abs().max() > 0.01


def test_inputs_of_zeros_stay_finite():
    linear = nn.Linear(32, 32, dtype=torch.bfloat16).requires_grad_(False)
    assert torch.equal(fp8.Fp8Linear(linear)(torch.zeros(3, 32, dtype=torch.bfloat16)), linear.bias.expand(3, -1))


def test_every_linear_layer_is_replaced():
    layers = nn.Sequential(nn.Linear(32, 32), nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32)))
    fp8.round_layers(layers.requires_grad_(False).to(torch.bfloat16), "cpu")
    assert [type(module).__name__ for module in layers.modules() if not list(module.children())] == [
        "Fp8Linear",
        "LayerNorm",
        "Fp8Linear",
    ]


def test_a_device_without_the_product_is_refused():
    with pytest.raises(fp8.Unsupported, match=r".+"):
        fp8.round_layers(nn.Sequential(nn.Linear(32, 32)), "meta-like-device")
