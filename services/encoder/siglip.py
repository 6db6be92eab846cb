"""Runs SigLIP through transformers; uint8 pictures are copied to the device and normalised there."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.encoder.checkpoint import Checkpoint
from services.encoder.engine import Encoded, Model, StartupError
from videoanalysis.cores import cores

# torch gives its streams and events no types.
cuda: Any = torch.cuda

_TEXTS_PER_BATCH = 64
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class SiglipEngine:
    """Both towers of a SiglipModel. Build one with `load`."""

    def __init__(self, model: Model, network: Any, tokenizer: Any, normalise: "Normalise") -> None:
        self._model = model
        self._network = network
        self._tokenizer = tokenizer
        self._normalise = normalise
        self._context_length: int = network.config.text_config.max_position_embeddings
        self._accelerator: Accelerator = Cuda() if model.device == "cuda" else Cpu()

    @property
    def model(self) -> Model:
        return self._model

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
        batches = (texts[start : start + _TEXTS_PER_BATCH] for start in range(0, len(texts), _TEXTS_PER_BATCH))
        return np.concatenate([self._accelerator.run(self._tokenize(batch), self._embed_texts)[0] for batch in batches])

    def warm_up(self) -> Encoded:
        """One chunk of the default size on CUDA, where kernels load on first use; one frame on a CPU, where nothing is
        loaded and a frame may take seconds."""
        self.encode_texts(["a picture"])
        frames = 16 if self._model.device == "cuda" else 1
        return self.encode(np.zeros((frames, self._model.image_size, self._model.image_size, 3), np.uint8))

    def _embed_pictures(self, frames: Tensor) -> Tensor:
        return _unit_rows(self._network.get_image_features(pixel_values=self._normalise(frames)))

    def _embed_texts(self, tokens: Tensor) -> Tensor:
        return _unit_rows(self._network.get_text_features(input_ids=tokens))

    def _tokenize(self, texts: list[str]) -> Tensor:
        """Token ids, int64 [texts, context length].

        Always padded to the full length and without an attention mask: SigLIP is trained with padding, and pools a text
        at its last position.
        """
        tokens: Tensor = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self._context_length, return_tensors="pt"
        )["input_ids"]
        return tokens


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


def load(checkpoint: Checkpoint, *, device: str, precision: str, torch_threads: int) -> SiglipEngine:
    """Load both towers onto the device; raises StartupError if the checkpoint cannot be read.

    `device` and `precision` may be "auto"; `torch_threads` of 0 is one for each core that this process may use.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise StartupError("ENCODER_DEVICE=cuda, but torch finds no CUDA device; set it to auto or cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    torch.set_num_threads(torch_threads or cores())
    with ThreadPoolExecutor(1) as hashing:
        # Hashing the weights takes about as long as loading them.
        digest = hashing.submit(lambda: checkpoint.digest)
        network, tokenizer = _read(checkpoint)
        vision = network.config.vision_config
        model = Model(
            model_id=checkpoint.model_id,
            revision=checkpoint.revision,
            digest=digest.result(),
            embedding_dim=vision.hidden_size,
            image_size=vision.image_size,
            # Read before the weights are rounded: bfloat16 changes the scale by up to 2 %.
            logit_scale=network.logit_scale.float().exp().item(),
            logit_bias=network.logit_bias.float().item(),
            precision=precision,
            device=device,
            engine="siglip",
        )
    network.to(device=device, dtype=_DTYPES[precision])
    normalise = Normalise(checkpoint.preprocessing, _DTYPES[precision], device)
    if device == "cuda":
        # The streams of the engine do not wait for the default stream, which copied the weights.
        cuda.synchronize()
    return SiglipEngine(model, network, tokenizer, normalise)


def _read(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The network in evaluation mode, on the CPU as it was saved, and its tokenizer."""
    from transformers import AutoTokenizer, SiglipModel

    named = f"ENCODER_MODEL={checkpoint.model_id}"
    try:
        loaded: Any = SiglipModel.from_pretrained(
            checkpoint.directory, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise StartupError(
            f"{named}: {checkpoint.directory} cannot be read ({type(error).__name__}: {error}); download it again or "
            "name another checkpoint."
        ) from error
    network, report = loaded
    if report["missing_keys"]:
        # transformers fills them with random numbers and goes on.
        raise StartupError(
            f"{named}: the weights in {checkpoint.directory} miss {len(report['missing_keys'])} tensors, such as "
            f"{min(report['missing_keys'])}; both towers are needed, so name a complete SigLIP checkpoint."
        )
    vision = network.config.vision_config
    if not isinstance(vision.image_size, int) or not getattr(vision, "vision_use_head", True):
        raise StartupError(f"{named} has no square picture or no pooling head; name a SigLIP checkpoint with both.")
    return network.eval(), tokenizer


def _unit_rows(features: Any) -> Tensor:
    # transformers 5 wraps the features, 4 returns them.
    rows: Tensor = getattr(features, "pooler_output", features)
    return torch.nn.functional.normalize(rows.float(), dim=-1)


def _mark() -> Any:
    event = cuda.Event(enable_timing=True)
    event.record()
    return event
