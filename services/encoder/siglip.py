"""Runs SigLIP (Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023) and SigLIP 2.

uint8 pictures are copied to the device and normalised there.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.encoder import fp8, towers
from services.encoder.accelerator import Accelerator, Cpu, Streams
from services.encoder.attention import flash_attention
from services.encoder.batching import ChunkBatcher
from services.encoder.checkpoint import Checkpoint
from services.encoder.engine import Encoded, Model, StartupError
from services.encoder.pictures import CudaGraph, PictureEncoder, compiled_sizes
from services.encoder.texts import TextEncoder
from videoanalysis.cores import cores

# What layers return; "fp8" rounds the inputs of their matrix products.
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp8": torch.bfloat16,
}
# This mode uses CudaGraph of `pictures`: the CUDA graphs of torch.compile are bound to one thread.
_WITH_GRAPHS = "max-autotune"
_MODES = {_WITH_GRAPHS: "max-autotune-no-cudagraphs"}


class SiglipEngine:
    """The vision tower, and the text tower while texts are embedded. Build one with `load`."""

    def __init__(
        self,
        model: Model,
        pictures: PictureEncoder,
        texts: TextEncoder,
        *,
        attention: Callable[[], AbstractContextManager[None]] = nullcontext,
        max_batch_chunks: int = 1,
        batch_wait_seconds: float = 0.0,
    ) -> None:
        self._model = model
        self._pictures = pictures
        self._texts = texts
        self._attention = attention
        self._accelerator: Accelerator = Streams() if model.device == "cuda" else Cpu()
        self._encode = ChunkBatcher(self._encode_all, max_chunks=max_batch_chunks, wait_seconds=batch_wait_seconds)
        self._compiling = threading.Lock()
        self._is_compiled = False

    @property
    def model(self) -> Model:
        return self._model

    @property
    def texts(self) -> TextEncoder:
        return self._texts

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """uint8 [nbytes]; on CUDA in pinned memory, which the device copies asynchronously."""
        buffer: NDArray[np.uint8] = torch.empty(
            nbytes, dtype=torch.uint8, pin_memory=self._model.device == "cuda"
        ).numpy()
        return buffer

    def encode(self, frames: NDArray[np.uint8]) -> Encoded:
        """Embeds RGB pictures, uint8 [frames, image_size, image_size, 3]; raises ValueError for another shape.

        With `max_batch_chunks` over 1, concurrent calls share a computation.
        """
        size = self._model.image_size
        if frames.dtype != np.uint8 or frames.shape[1:] != (size, size, 3):
            raise ValueError(f"frames {frames.dtype} {list(frames.shape)}, not uint8 [n, {size}, {size}, 3]")
        return self._encode(frames)

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """float32 [texts, embedding_dim], unit rows; raises Unavailable if the text tower cannot be loaded."""
        return self._texts.embed(texts, self._embed_tokens)

    def warm_up(self) -> Encoded:
        """Encodes one chunk of the default size on CUDA, where kernels load on first use, and one frame on a CPU, where
        a frame may take seconds. The first call compiles."""
        with self._compiling:
            if not self._is_compiled:
                self._pictures.compile(lambda count, compute: self._run([self._blank(count)], compute))
                self._is_compiled = True
        return self._encode_all([self._blank(16 if self._model.device == "cuda" else 1)])

    def _encode_all(self, chunks: Sequence[NDArray[np.uint8]]) -> Encoded:
        return self._run(chunks, self._pictures)

    def _run(self, chunks: Sequence[NDArray[np.uint8]], compute: Callable[[Tensor], Tensor]) -> Encoded:
        def attending(frames: Tensor) -> Tensor:
            with self._attention():
                return compute(frames)

        return Encoded(*self._accelerator.run([torch.from_numpy(frames) for frames in chunks], attending))

    def _blank(self, count: int) -> NDArray[np.uint8]:
        return np.zeros((count, self._model.image_size, self._model.image_size, 3), np.uint8)

    def _embed_tokens(self, tokens: Tensor, tower: towers.TextTower) -> NDArray[np.float32]:
        return self._accelerator.run([tokens], lambda on_device: _unit_rows(tower(on_device)))[0]


class Normalise:
    """Rescales and normalises like the checkpoint's image processor, on the device of the frames."""

    def __init__(self, preprocessing: dict[str, Any], dtype: torch.dtype, device: str) -> None:
        half = [0.5, 0.5, 0.5]
        rescale = preprocessing.get("do_rescale", True)
        normalise = preprocessing.get("do_normalize", True)
        self._factor = float(preprocessing.get("rescale_factor", 1 / 255)) if rescale else 1.0
        mean = (preprocessing.get("image_mean") or half) if normalise else [0.0]
        std = (preprocessing.get("image_std") or half) if normalise else [1.0]
        self._mean = torch.tensor(mean, device=device).reshape(1, -1, 1, 1)
        self._std = torch.tensor(std, device=device).reshape(1, -1, 1, 1)
        self._dtype = dtype

    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 [n, height, width, 3] → the model's precision, [n, 3, height, width]."""
        pixels = frames.permute(0, 3, 1, 2).to(torch.float32)
        return pixels.mul_(self._factor).sub_(self._mean).div_(self._std).to(self._dtype)


def load(
    checkpoint: Checkpoint,
    *,
    device: str,
    precision: str,
    torch_threads: int,
    text_tower_idle_seconds: float | None = None,
    compile_mode: str = "off",
    max_batch_chunks: int = 1,
    batch_wait_seconds: float = 0.0,
) -> SiglipEngine:
    """Loads the vision tower onto the device; raises StartupError if the checkpoint cannot be read.

    `device`, `precision` and `compile_mode` may be "auto"; `torch_threads` of 0 is one for each core that this process
    may use. The text tower is loaded for the first texts and freed `text_tower_idle_seconds` after the last, if given.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise StartupError("ENCODER_DEVICE=cuda, but torch finds no CUDA device; set it to auto or cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = _precision(device)
    if compile_mode == "auto":
        compile_mode = "max-autotune-no-cudagraphs" if device == "cuda" else "off"
    torch.set_num_threads(torch_threads or cores())
    dtype = _DTYPES[precision]
    checkpoint.start_hashing()
    try:
        shape = towers.vision_shape(checkpoint.config)
        vision = towers.load(
            towers.VisionTower, shape, checkpoint.weights("vision_model."), "vision_model.", device, dtype
        )
        texts = TextEncoder(checkpoint, device, dtype, text_tower_idle_seconds)
        texts.check()
        scale, bias = towers.scalars(checkpoint.weights("logit_"), ["logit_scale", "logit_bias"])
    except torch.cuda.OutOfMemoryError as error:
        raise StartupError(
            f"ENCODER_MODEL={checkpoint.name} does not fit into the free memory of the device: {error}"
        ) from error
    except Exception as error:
        raise StartupError(
            f"ENCODER_MODEL={checkpoint.name}: {checkpoint.directory} cannot be read ({error}); download it again "
            "or name another SigLIP checkpoint, one with both towers."
        ) from error
    model = Model(
        model_id=checkpoint.model_id,
        revision=checkpoint.revision,
        digest=checkpoint.digest,
        embedding_dim=shape.hidden_size,
        image_size=shape.image_size,
        logit_scale=torch.tensor(scale).exp().item(),
        logit_bias=bias,
        precision=precision,
        device=device,
        engine="siglip",
    )
    if precision == "fp8":
        round_to_fp8(vision.encoder, device)
    attention: Callable[[], AbstractContextManager[None]] = nullcontext
    if device == "cuda":
        heads, positions = shape.num_attention_heads, (shape.image_size // shape.patch_size) ** 2
        attention = flash_attention(heads, positions, shape.hidden_size // heads, dtype)
        # The streams of the engine do not wait for the default stream, which copied the weights.
        torch.cuda.synchronize()
    return SiglipEngine(
        model,
        _picture_encoder(vision, Normalise(checkpoint.preprocessing, dtype, device), compile_mode, max_batch_chunks),
        texts,
        attention=attention,
        max_batch_chunks=max_batch_chunks,
        batch_wait_seconds=batch_wait_seconds,
    )


def _precision(device: str) -> str:
    """bfloat16 where the device multiplies it in hardware: on a CPU with AMX it takes 0.3 times as long as float32."""
    return "bfloat16" if device == "cuda" or torch.cpu._is_amx_tile_supported() else "float32"


def picture_steps(vision: towers.VisionTower, normalise: Normalise) -> list[Callable[[Tensor], Tensor]]:
    """The steps from pictures to embeddings. Each layer is a step: they are alike, so one is compiled for all."""
    return [
        lambda frames: vision.embed(normalise(frames)),
        *(layer.forward for layer in vision.encoder.layers),
        lambda hidden: _unit_rows(vision.pool(hidden)),
    ]


def _picture_encoder(
    vision: towers.VisionTower, normalise: Normalise, compile_mode: str, max_batch_chunks: int
) -> PictureEncoder:
    steps = picture_steps(vision, normalise)
    if compile_mode == "off":
        return PictureEncoder(steps)
    return PictureEncoder(
        steps,
        sizes=compiled_sizes(max_batch_chunks),
        compiler=partial(torch.compile, dynamic=False, fullgraph=True, mode=_MODES.get(compile_mode, compile_mode)),
        capture=CudaGraph if compile_mode == _WITH_GRAPHS and torch.cuda.is_available() else None,
    )


def round_to_fp8(layers: torch.nn.Module, device: str) -> None:
    """Rounds the linear layers inside `layers`; raises StartupError if `device` cannot multiply them."""
    try:
        fp8.round_layers(layers, device)
    except fp8.Unsupported as error:
        raise StartupError(
            f"ENCODER_PRECISION=fp8: {device} cannot multiply fp8 ({error}); it takes a GPU of compute capability 8.9, "
            "such as L4 or H100. Set ENCODER_PRECISION=bfloat16."
        ) from error


def _unit_rows(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1)
