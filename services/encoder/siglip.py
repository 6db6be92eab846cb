"""Runs SigLIP; uint8 pictures are copied to the device and normalised there."""

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.encoder import towers
from services.encoder.checkpoint import Checkpoint
from services.encoder.engine import Encoded, Model, StartupError
from services.encoder.texts import TextEncoder
from videoanalysis.cores import cores

# torch gives its streams and events no types.
cuda: Any = torch.cuda

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class SiglipEngine:
    """The vision tower, and the text tower while texts are embedded. Build one with `load`."""

    def __init__(self, model: Model, vision: towers.VisionTower, texts: TextEncoder, normalise: "Normalise") -> None:
        self._model = model
        self._vision = vision
        self._texts = texts
        self._normalise = normalise
        self._accelerator: Accelerator = Cuda() if model.device == "cuda" else Cpu()

    @property
    def model(self) -> Model:
        return self._model

    @property
    def texts(self) -> TextEncoder:
        return self._texts

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """Pinned memory on CUDA, which the device copies asynchronously."""
        buffer: NDArray[np.uint8] = torch.empty(
            nbytes, dtype=torch.uint8, pin_memory=self._model.device == "cuda"
        ).numpy()
        return buffer

    def encode(self, frames: NDArray[np.uint8]) -> Encoded:
        size = self._model.image_size
        if frames.dtype != np.uint8 or frames.shape[1:] != (size, size, 3):
            raise ValueError(f"frames {frames.dtype} {list(frames.shape)}, not uint8 [n, {size}, {size}, 3]")
        return Encoded(*self._accelerator.run(torch.from_numpy(frames), self._embed_pictures))

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        return self._texts.embed(texts, self._embed_tokens)

    def warm_up(self) -> Encoded:
        """One chunk of the default size on CUDA, where kernels load on first use; one frame on a CPU, where nothing is
        loaded and a frame may take seconds."""
        frames = 16 if self._model.device == "cuda" else 1
        return self.encode(np.zeros((frames, self._model.image_size, self._model.image_size, 3), np.uint8))

    def _embed_pictures(self, frames: Tensor) -> Tensor:
        return _unit_rows(self._vision(self._normalise(frames)))

    def _embed_tokens(self, tokens: Tensor, tower: towers.TextTower) -> NDArray[np.float32]:
        return self._accelerator.run(tokens, lambda on_device: _unit_rows(tower(on_device)))[0]


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


class Accelerator(Protocol):
    def run(self, inputs: Tensor, compute: Callable[[Tensor], Tensor]) -> tuple[NDArray[np.float32], float]:
        """The result of `compute` on `inputs`, both on the host, and the seconds it took.

        Computations run one at a time, so that each ends as early as possible; waiting does not count.
        """
        ...


class Cpu:
    """One computation at a time uses all threads: two would only compete for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def run(self, inputs: Tensor, compute: Callable[[Tensor], Tensor]) -> tuple[NDArray[np.float32], float]:
        with self._lock, torch.inference_mode():
            started = time.perf_counter()
            outputs = compute(inputs)
            return outputs.numpy(), time.perf_counter() - started


class Cuda:
    """A stream for each calling thread: copies overlap, computations queue on the device in the order of the calls.

    The next computation is launched while the previous one runs, so the device does not wait for Python.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._last_done = cuda.Event()

    def run(self, inputs: Tensor, compute: Callable[[Tensor], Tensor]) -> tuple[NDArray[np.float32], float]:
        with cuda.stream(self._stream()), torch.inference_mode():
            copying = _mark()
            on_device = inputs.to("cuda", non_blocking=True)
            copied = _mark()
            with self._lock:
                self._last_done.wait()
                started = _mark()
                outputs = compute(on_device)
                self._last_done = _mark()
            result = outputs.cpu()
            finished = _mark()
            finished.synchronize()
            milliseconds = copying.elapsed_time(copied) + started.elapsed_time(finished)
            return result.numpy(), milliseconds / 1000

    def _stream(self) -> Any:
        if not hasattr(self._threads, "stream"):
            self._threads.stream = cuda.Stream()
        return self._threads.stream


def load(
    checkpoint: Checkpoint,
    *,
    device: str,
    precision: str,
    torch_threads: int,
    text_tower_idle_seconds: float | None = None,
) -> SiglipEngine:
    """Load the vision tower onto the device; raises StartupError if the checkpoint cannot be read.

    `device` and `precision` may be "auto"; `torch_threads` of 0 is one for each core that this process may use. The
    text tower is loaded for the first texts and freed `text_tower_idle_seconds` after the last, if given.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise StartupError("ENCODER_DEVICE=cuda, but torch finds no CUDA device; set it to auto or cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
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
    normalise = Normalise(checkpoint.preprocessing, dtype, device)
    if device == "cuda":
        # The streams of the engine do not wait for the default stream, which copied the weights.
        cuda.synchronize()
    return SiglipEngine(model, vision, texts, normalise)


def _unit_rows(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1)


def _mark() -> Any:
    event = cuda.Event(enable_timing=True)
    event.record()
    return event
