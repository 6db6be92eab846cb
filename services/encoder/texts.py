"""Embeds texts; loads the text tower for the first texts and frees it when it is idle."""

import gc
import threading
from collections.abc import Callable

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.encoder import towers
from services.encoder.checkpoint import Checkpoint
from services.encoder.tokenizer import Tokenizer
from videoanalysis.errors import Unavailable

_TEXTS_PER_BATCH = 64
# Token ids and the tower → embeddings.
Compute = Callable[[Tensor, towers.TextTower], NDArray[np.float32]]

_log = structlog.get_logger()


class TextEncoder:
    """The text tower of `checkpoint`; freed `idle_seconds` after the last texts, if given."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype, idle_seconds: float | None) -> None:
        self._checkpoint = checkpoint
        self._shape = towers.text_shape(checkpoint.config)
        self._device = device
        self._dtype = dtype
        self._idle_seconds = idle_seconds
        # One call at a time, and no freeing during one.
        self._lock = threading.Lock()
        self._loaded: tuple[Tokenizer, towers.TextTower] | None = None
        self._timer: threading.Timer | None = None

    def check(self) -> None:
        """Raises WeightsInvalid if the files do not hold the tower; reads no weights."""
        towers.check(towers.TextTower, self._shape, self._checkpoint.weights("text_model."), "text_model.")

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    def embed(self, texts: list[str], compute: Compute) -> NDArray[np.float32]:
        """What `compute` returns for the texts, concatenated; raises Unavailable if the tower cannot be loaded."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            try:
                tokenizer, tower = self._loaded = self._loaded or self._load()
                batches = (texts[start : start + _TEXTS_PER_BATCH] for start in range(0, len(texts), _TEXTS_PER_BATCH))
                return np.concatenate([compute(tokenizer(batch), tower) for batch in batches])
            finally:
                self._start_timer()

    def _free(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                # Texts arrived after the timer expired.
                return
            self._loaded = None
            # Modules refer to each other in cycles.
            gc.collect()
            if self._device == "cuda":
                torch.cuda.empty_cache()

    def _load(self) -> tuple[Tokenizer, towers.TextTower]:
        try:
            tokenizer = Tokenizer(self._checkpoint.directory, self._shape.max_position_embeddings)
            self._checkpoint.require_intact("text_model.")
            files = self._checkpoint.weights("text_model.")
            tower = towers.load(towers.TextTower, self._shape, files, "text_model.", self._device, self._dtype)
        except Exception as error:
            _log.exception("text tower not loaded")
            raise Unavailable("the encoder cannot load the text tower of its model; its log says why") from error
        if self._device == "cuda":
            # The computing streams do not wait for the stream that copied the weights.
            torch.cuda.current_stream().synchronize()
        return tokenizer, tower

    def _start_timer(self) -> None:
        if self._loaded is None or self._idle_seconds is None:
            return
        self._timer = threading.Timer(self._idle_seconds, self._free)
        self._timer.daemon = True
        self._timer.start()
