import torch
from structlog.testing import capture_logs

from services.encoder.attention import flash_attention

cuda = torch.backends.cuda


def test_where_flash_attention_is_usable_no_other_kernel_is():
    with capture_logs() as lines:
        attention = flash_attention(2, 9, 8, torch.bfloat16, device="cpu", usable=lambda _: True)
    assert lines == []
    with attention():
        assert cuda.flash_sdp_enabled()
        others = [cuda.math_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()]
        assert not any(others)
    assert cuda.math_sdp_enabled()


def test_where_it_is_not_usable_that_is_logged_once_and_torch_chooses():
    with capture_logs() as lines:
        attention = flash_attention(2, 9, 8, torch.float32, device="cpu")
    assert [(line["log_level"], line["precision"], line["head_dim"]) for line in lines] == [("warning", "float32", 8)]
    with attention():
        assert cuda.math_sdp_enabled()
