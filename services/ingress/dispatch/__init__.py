"""Frames and embeddings go in; embeddings, tags and captions of the encoders and decoders come out.

`Encoders` and `Decoders` call whichever replica `discovery` finds: `placement` decides which one is next, `hedging`
offers a chunk to several encoders, `retry` repeats what failed, `answers` checks what they return.
"""

from services.ingress.dispatch.decoders import Decoders
from services.ingress.dispatch.discovery import Discovery, DnsName, KubernetesService, Location, Static, discover
from services.ingress.dispatch.encoders import EncodedChunk, Encoders
from services.ingress.dispatch.failures import NoLongerServed
from services.ingress.dispatch.label_embeddings import LabelEmbeddings
from services.ingress.dispatch.replica import ReplicaTls
from services.ingress.dispatch.replicas import Replicas

__all__ = [
    "Decoders",
    "Discovery",
    "DnsName",
    "EncodedChunk",
    "Encoders",
    "KubernetesService",
    "LabelEmbeddings",
    "Location",
    "NoLongerServed",
    "ReplicaTls",
    "Replicas",
    "Static",
    "discover",
]
