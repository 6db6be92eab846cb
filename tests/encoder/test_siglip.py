import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from structlog.testing import capture_logs
from transformers import SiglipModel, SiglipProcessor, SiglipTokenizer

from services.encoder import checkpoint, siglip, towers
from services.encoder.engine import StartupError
from services.encoder.pictures import PictureEncoder
from services.encoder.verification import scene
from tests.encoder.random_checkpoint import IMAGE_SIZE

try:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil as SiglipImageProcessor
except ImportError:  # transformers 4, where the plain class is this one
    from transformers import SiglipImageProcessor

BUNDLED = Path(siglip.__file__).parent / "bundled" / "rendered-scenes"
TEXTS = ["a dog walks in the garden", "Train, stops: in the STATION!", "zebra", "a car " * 60]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def pictures() -> np.ndarray:
    """Noise, gradients and the extremes: uint8 [8, size, size, 3]."""
    random = np.random.default_rng(1).integers(0, 256, (3, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, IMAGE_SIZE).astype(np.uint8)
    across = np.broadcast_to(ramp[:, np.newaxis], (IMAGE_SIZE, IMAGE_SIZE, 3))
    down = np.broadcast_to(ramp[:, np.newaxis, np.newaxis], (IMAGE_SIZE, IMAGE_SIZE, 3))
    colours = np.stack([across[..., 0], down[..., 0], 255 - across[..., 0]], axis=-1)
    return np.stack([*random, across, down, colours, np.zeros_like(across), np.full_like(across, 255)])


def load(directory: Path, **changes: object) -> siglip.SiglipEngine:
    wanted = {"device": "cpu", "precision": "float32", "torch_threads": 1, **changes}
    return siglip.load(checkpoint.resolve(str(directory), None), **wanted)


@pytest.fixture
def copied(checkpoint_directory, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint_directory, tmp_path / "copy"))


@pytest.fixture(scope="module")
def processor(checkpoint_directory) -> SiglipProcessor:
    return SiglipProcessor(
        image_processor=SiglipImageProcessor.from_pretrained(checkpoint_directory),
        tokenizer=SiglipTokenizer.from_pretrained(checkpoint_directory),
    )


@pytest.fixture(scope="module")
def network(checkpoint_directory) -> SiglipModel:
    return SiglipModel.from_pretrained(checkpoint_directory).eval()


def unit_rows(features) -> np.ndarray:
    rows = getattr(features, "pooler_output", features).detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def text_rows(network, processor, texts: list[str], **options) -> np.ndarray:
    tokens = processor(text=texts, return_tensors="pt", truncation=True, max_length=64, **options)["input_ids"]
    return unit_rows(network.get_text_features(input_ids=tokens))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image_mean": [0.48, 0.45, 0.40], "image_std": [0.26, 0.27, 0.28]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [127.0, 128.0, 129.0], "image_std": [60.0, 61.0, 62.0]},
    ],
)
def test_pictures_are_normalised_as_by_the_models_own_processor(copied, changes):
    path = copied / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    own = SiglipImageProcessor.from_pretrained(copied)
    wanted = own(images=[Image.fromarray(picture) for picture in pictures()], return_tensors="pt")["pixel_values"]
    preprocessing = checkpoint.resolve(str(copied), None).preprocessing
    pixels = siglip.Normalise(preprocessing, torch.float32, "cpu")(torch.from_numpy(pictures()))
    assert pixels.shape == wanted.shape
    assert (pixels - wanted).abs().max() < 1e-6


def test_embeddings_of_pictures_are_those_of_transformers(siglip_engine, network, processor):
    inputs = processor(images=[Image.fromarray(picture) for picture in pictures()], return_tensors="pt")
    with torch.inference_mode():
        wanted = unit_rows(network.get_image_features(**inputs))
    encoded = siglip_engine.encode(pictures())
    assert encoded.embeddings.dtype == np.float32
    assert np.abs(encoded.embeddings - wanted).max() < 1e-5
    assert 0 < encoded.compute_seconds < 10


def test_embeddings_of_texts_are_those_of_transformers(siglip_engine, network, processor):
    with torch.inference_mode():
        wanted = text_rows(network, processor, TEXTS, padding="max_length")
    assert np.abs(siglip_engine.encode_texts(TEXTS) - wanted).max() < 1e-5


def test_padding_to_the_longest_text_instead_would_give_other_embeddings(siglip_engine, network, processor):
    with torch.inference_mode():
        shorter = text_rows(network, processor, TEXTS[:3], padding="longest")
    cosines = (siglip_engine.encode_texts(TEXTS[:3]) * shorter).sum(axis=1)
    assert cosines.max() < 0.99


def test_a_text_does_not_depend_on_those_beside_it(siglip_engine):
    texts = [f"a dog walks {number}" for number in range(70)]
    together = siglip_engine.encode_texts(texts)
    assert together.shape == (70, 64)
    alone = siglip_engine.encode_texts([texts[0], texts[63], texts[64], texts[69]])
    assert np.abs(together[[0, 63, 64, 69]] - alone).max() < 1e-5


def test_rows_have_unit_length(siglip_engine):
    rows = np.concatenate([siglip_engine.encode(pictures()).embeddings, siglip_engine.encode_texts(TEXTS)])
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-6


def test_the_scale_is_the_factor_and_not_its_logarithm(siglip_engine, network):
    assert siglip_engine.model.logit_scale == pytest.approx(np.exp(network.logit_scale.item()))
    assert siglip_engine.model.logit_bias == pytest.approx(network.logit_bias.item())


def test_bfloat16_is_close_to_float32(siglip_engine, checkpoint_directory):
    rounded = load(checkpoint_directory, precision="bfloat16")
    assert rounded.model.precision == "bfloat16"
    assert rounded.model.digest == siglip_engine.model.digest
    assert rounded.model.logit_scale == siglip_engine.model.logit_scale
    exact = siglip_engine.encode(pictures()).embeddings
    cosines = (exact * rounded.encode(pictures()).embeddings).sum(axis=1)
    assert cosines.min() > 0.99
    assert np.abs(np.linalg.norm(rounded.encode_texts(TEXTS), axis=1) - 1).max() < 1e-6


def test_auto_is_the_precision_that_the_cpu_multiplies_fastest(siglip_engine, checkpoint_directory):
    assert siglip_engine.model.device == "cpu"
    has_amx = "amx_bf16" in Path("/proc/cpuinfo").read_text()
    precision = load(checkpoint_directory, device="cpu", precision="auto").model.precision
    assert precision == ("bfloat16" if has_amx else "float32")


def test_fp8_rounds_a_trained_vision_tower_little_and_the_text_tower_not_at_all():
    exact, rounded, plain = (load(BUNDLED, precision=precision) for precision in ("float32", "fp8", "bfloat16"))
    assert rounded.model.precision == "fp8"
    frames = np.stack([scene(96, 96, seed) for seed in range(16)])
    cosines = (exact.encode(frames).embeddings * rounded.encode(frames).embeddings).sum(axis=1)
    assert 0.999 < cosines.min() < 0.99999
    assert np.array_equal(rounded.encode_texts(TEXTS), plain.encode_texts(TEXTS))


def test_every_step_is_traced_whole_and_gives_the_same_embeddings_in_a_few_lengths(siglip_engine, checkpoint_directory):
    found = checkpoint.resolve(str(checkpoint_directory), None)
    shape = towers.vision_shape(found.config)
    vision = towers.load(
        towers.VisionTower, shape, found.weights("vision_model."), "vision_model.", "cpu", torch.float32
    )
    compiler = partial(torch.compile, backend="eager", fullgraph=True, dynamic=False)
    steps = siglip.picture_steps(vision, siglip.Normalise(found.preprocessing, torch.float32, "cpu"))
    compiled = PictureEncoder(steps, sizes=[2, 4], compiler=compiler)
    with torch.inference_mode(), capture_logs() as lines:
        compiled.compile(lambda count, compute: compute(torch.from_numpy(pictures()[:count])))
        embeddings = compiled(torch.from_numpy(pictures()[:7])).numpy()
    assert [(line["event"], line["pictures"]) for line in lines] == [("compiled", [2, 4])]
    assert np.abs(embeddings - siglip_engine.encode(pictures()[:7]).embeddings).max() < 1e-5


def test_chunks_that_share_a_computation_have_the_embeddings_that_they_have_alone(siglip_engine, checkpoint_directory):
    joining = load(checkpoint_directory, max_batch_chunks=2, batch_wait_seconds=10)
    chunks = [pictures()[:3], pictures()[3:]]
    with ThreadPoolExecutor(2) as threads:
        for encoded, chunk in zip(threads.map(joining.encode, chunks), chunks, strict=True):
            assert np.abs(encoded.embeddings - siglip_engine.encode(chunk).embeddings).max() < 1e-5


def test_two_threads_get_what_one_gets(siglip_engine):
    wanted = siglip_engine.encode(pictures()).embeddings
    with ThreadPoolExecutor(2) as threads:
        for encoded in threads.map(siglip_engine.encode, [pictures()] * 4):
            assert np.array_equal(encoded.embeddings, wanted)


def test_warms_up_with_pictures_that_it_encodes(siglip_engine):
    encoded = siglip_engine.warm_up()
    assert len(encoded.embeddings) >= 1
    assert encoded.compute_seconds > 0


def test_encodes_from_a_part_of_its_own_buffer(siglip_engine):
    frames = pictures()
    buffer = siglip_engine.allocate(frames.nbytes * 2)
    buffer[: frames.nbytes] = frames.reshape(-1)
    encoded = siglip_engine.encode(buffer[: frames.nbytes].reshape(frames.shape))
    assert np.array_equal(encoded.embeddings, siglip_engine.encode(frames).embeddings)


def test_refuses_another_picture_size(siglip_engine):
    with pytest.raises(ValueError, match=r"not uint8 \[n, 96, 96, 3\]"):
        siglip_engine.encode(np.zeros((1, 95, 96, 3), np.uint8))


def test_refuses_weights_without_the_text_tower(copied):
    weights = load_file(copied / "model.safetensors")
    vision = {name: value for name, value in weights.items() if not name.startswith("text_model")}
    save_file(vision, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StartupError, match=r"ENCODER_MODEL=.* miss \d+ tensors, such as text_model"):
        load(copied)


def test_refuses_damaged_weights(copied):
    (copied / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(StartupError, match=r"ENCODER_MODEL=.* cannot be read"):
        load(copied)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_names_the_setting_when_there_is_no_cuda_device(checkpoint_directory):
    with pytest.raises(StartupError, match="ENCODER_DEVICE=cuda"):
        load(checkpoint_directory, device="cuda")


def test_fp8_is_refused_where_the_device_cannot_multiply_it():
    with pytest.raises(StartupError, match=r"ENCODER_PRECISION=fp8: .*Set ENCODER_PRECISION=bfloat16"):
        siglip.round_to_fp8(torch.nn.Linear(32, 32), "no-such-device")


@needs_cuda
def test_cuda_agrees_with_the_cpu(siglip_engine, checkpoint_directory):
    exact = siglip_engine.encode(pictures()).embeddings
    engine = load(checkpoint_directory, device="cuda", precision="float32")
    assert np.abs(engine.encode(pictures()).embeddings - exact).max() < 1e-2
    assert np.abs(engine.encode_texts(TEXTS) - siglip_engine.encode_texts(TEXTS)).max() < 1e-2
    automatic = load(checkpoint_directory, device="auto", precision="auto")
    assert (automatic.model.device, automatic.model.precision) == ("cuda", "bfloat16")
    assert (automatic.encode(pictures()).embeddings * exact).sum(axis=1).min() > 0.99


@needs_cuda
def test_threads_on_cuda_do_not_mix_their_chunks(checkpoint_directory):
    engine = load(checkpoint_directory, device="cuda", precision="float32")
    chunks = [np.roll(pictures(), shift, axis=0) for shift in range(8)]
    alone = [engine.encode(chunk).embeddings for chunk in chunks]
    buffers = [engine.allocate(chunk.nbytes) for chunk in chunks]
    for buffer, chunk in zip(buffers, chunks, strict=True):
        buffer[:] = chunk.reshape(-1)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(10):
            together = threads.map(engine.encode, [buffer.reshape(pictures().shape) for buffer in buffers])
            for encoded, wanted in zip(together, alone, strict=True):
                assert np.abs(encoded.embeddings - wanted).max() < 1e-4
                assert 0 < encoded.compute_seconds < 10


@needs_cuda
def test_cuda_buffers_are_pinned(checkpoint_directory):
    engine = load(checkpoint_directory, device="cuda", precision="float32")
    assert torch.from_numpy(engine.allocate(1000)).is_pinned()


@needs_cuda
@pytest.mark.parametrize("mode", ["default", "max-autotune-no-cudagraphs", "max-autotune"])
def test_compiled_on_cuda_two_threads_get_what_one_gets_without_compilation(checkpoint_directory, mode):
    plain = load(checkpoint_directory, device="cuda", precision="bfloat16")
    compiled = load(checkpoint_directory, device="cuda", precision="bfloat16", compile_mode=mode)
    with capture_logs() as lines:
        compiled.warm_up()
    assert [line["event"] for line in lines] == ["compiled"]
    chunks = [pictures()[:count] for count in (1, 3, 5, 8)] * 8
    wanted = [plain.encode(chunk).embeddings for chunk in chunks]
    with ThreadPoolExecutor(2) as threads:
        for encoded, rows in zip(threads.map(compiled.encode, chunks), wanted, strict=True):
            assert (encoded.embeddings * rows).sum(axis=1).min() > 0.999


@needs_cuda
def test_attention_on_cuda_is_flash_attention(checkpoint_directory):
    with capture_logs() as lines:
        engine = load(checkpoint_directory, device="cuda", precision="bfloat16")
        engine.encode(pictures())
    assert lines == []


@needs_cuda
def test_fp8_on_cuda_is_close_to_bfloat16(checkpoint_directory):
    plain = load(checkpoint_directory, device="cuda", precision="bfloat16").encode(pictures()).embeddings
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the device has no fp8 matrix products")
    rounded = load(checkpoint_directory, device="cuda", precision="fp8")
    assert (rounded.encode(pictures()).embeddings * plain).sum(axis=1).min() > 0.97
