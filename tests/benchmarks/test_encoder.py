import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoder import SMALL, SO400M, flops_per_frame
from services.encoder.towers import VisionShape, VisionTower


@pytest.mark.parametrize("shape", [SO400M, SMALL])
def test_the_flops_of_a_frame_are_those_that_torch_counts(shape):
    with torch.device("meta"):
        tower = VisionTower(VisionShape(**shape))
        pixels = torch.empty(1, 3, shape["image_size"], shape["image_size"])
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        tower(pixels)
    assert flops_per_frame(shape) == pytest.approx(counter.get_total_flops(), rel=0.002)
