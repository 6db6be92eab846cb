"""Embeddings of zero-shot labels, cached for later calls with the same labels."""

from collections.abc import Sequence

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from services.ingress.admission import Deadline, Demand
from services.ingress.dispatch.encoders import Encoders
from videoanalysis.v1.encoder_pb2 import ModelInfo


class LabelEmbeddings:
    """Caches the `max_texts` labels used last, each for the model that embedded it: some kilobytes a text."""

    def __init__(self, encoders: Encoders, demand: Demand, max_texts: int = 4096) -> None:
        self._encoders = encoders
        self._demand = demand
        self._known: LRUCache[tuple[str, str], NDArray[np.float32]] = LRUCache(max_texts)

    async def of(self, labels: Sequence[str], model: ModelInfo, deadline: Deadline) -> NDArray[np.float32]:
        """float32 [labels, embedding_dim], unit rows, in the order of `labels`, which are distinct."""
        unknown = [label for label in labels if (model.digest, label) not in self._known]
        rows = {label: self._known[model.digest, label] for label in labels if label not in set(unknown)}
        if unknown:
            with self._demand.texts():
                embeddings = await self._encoders.encode_texts(unknown, model, deadline)
            rows.update(zip(unknown, embeddings, strict=True))
        for label in labels:
            self._remember((model.digest, label), rows[label])
        return np.stack([rows[label] for label in labels])

    def _remember(self, key: tuple[str, str], row: NDArray[np.float32]) -> None:
        # A copy: a view would keep the whole array alive.
        self._known[key] = row.copy()
