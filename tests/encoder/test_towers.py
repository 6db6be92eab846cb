import pytest
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from services.encoder.towers import VisionShape, VisionTower

TOWER = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(("image_size", "patch_size"), [(64, 16), (60, 14)])
def test_the_vision_tower_computes_what_transformers_computes(image_size, patch_size):
    config = SiglipVisionConfig(**TOWER, image_size=image_size, patch_size=patch_size)
    torch.manual_seed(0)
    theirs = SiglipVisionModel(config).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.3)
    ours = VisionTower(VisionShape(**TOWER, image_size=image_size, patch_size=patch_size)).eval()
    weights = {name.removeprefix("vision_model."): tensor for name, tensor in theirs.state_dict().items()}
    ours.load_state_dict(weights)
    pixels = torch.randn(3, 3, image_size, image_size)
    with torch.inference_mode():
        wanted = theirs(pixel_values=pixels).pooler_output
        computed = ours(pixels)
        assert (computed - wanted).abs().max() < 1e-5 * wanted.abs().max()
        # As frames of a video lie in memory.
        assert torch.allclose(ours(pixels.to(memory_format=torch.channels_last)), computed)
