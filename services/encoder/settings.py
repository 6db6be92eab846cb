"""Settings of the encoder: ENCODER_<NAME> in the environment."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from videoanalysis.limits import MAX_FRAMES_PER_CHUNK
from videoanalysis.settings import ServiceSettings


class EncoderSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="ENCODER_")

    port: int = Field(50052, ge=0, le=65535, description="Port of the gRPC server; 0 lets the system choose.")
    grace_seconds: float = Field(
        60, ge=0, description="After the drain delay, time for chunks in progress; one takes seconds on a CPU."
    )

    engine: Literal["siglip", "synthetic"] = Field(
        "siglip", description="siglip runs the model; synthetic returns made-up embeddings, for load tests."
    )
    model: str = Field(
        "google/siglip-so400m-patch14-384",
        min_length=1,
        description="SigLIP or SigLIP 2, whole or prepared: a hub id, or a directory, which needs no network at start.",
    )
    revision: str | None = Field(
        None, description="Commit of the hub id, so that every replica serves the same weights; unset: the newest."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "fp8"] = Field(
        "auto",
        description="auto is bfloat16 on CUDA and on CPUs with AMX, where it is several times faster, and float32 on "
        "other CPUs; fp8 rounds more and takes a GPU of compute capability 8.9.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is CUDA where there is a device.")
    torch_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads of one CPU computation; 0 is one for each core that its CPU limit allows.",
    )

    compile: Literal["auto", "off", "default", "max-autotune-no-cudagraphs", "max-autotune"] = Field(
        "auto",
        description="Mode of torch.compile, applied before the encoder is ready; max-autotune adds CUDA graphs. auto "
        "is max-autotune-no-cudagraphs on CUDA and off on a CPU, where nothing is gained. If it fails, the encoder "
        "logs that and serves without.",
    )

    keep_text_tower: bool = Field(
        False, description="The text tower, loaded for the first texts, stays; else it is freed 60 s after the last."
    )

    max_in_flight: int = Field(
        2, ge=1, le=64, description="Chunks admitted at a time: one computes while the next is copied in."
    )
    max_batch_chunks: int = Field(
        1,
        ge=1,
        le=8,
        description="Chunks that share one computation if they wait at the same time; at most ENCODER_MAX_IN_FLIGHT, "
        "which is to be twice as large so that the next ones are copied in meanwhile.",
    )
    batch_wait_ms: float = Field(
        5.0, ge=0, le=1000, description="A chunk waits for so long for others to share its computation."
    )
    max_frames: int = Field(
        MAX_FRAMES_PER_CHUNK,
        ge=1,
        le=MAX_FRAMES_PER_CHUNK,
        description="Frames per chunk; sizes the buffer of each permit.",
    )
    max_parked: int = Field(
        256, ge=1, le=10_000, description="Chunk headers waiting for a permit; they hold no frame bytes."
    )
    max_parked_per_ingress: int = Field(
        16,
        ge=1,
        le=10_000,
        description="Of these, the headers of one ingress; ours offers a few chunks at a time.",
    )
    piece_seconds: float = Field(1.0, gt=0, le=60, description="An admitted upload that pauses for longer is aborted.")
    upload_seconds: float = Field(
        5.0,
        gt=0,
        le=600,
        description="An admitted upload that is not complete by then, or slower than it must be for that, is aborted; "
        "its ingress comes after the others for 30 s.",
    )
    max_parked_texts: int = Field(
        8, ge=1, le=10_000, description="EncodeTexts calls waiting for the one that computes; banks are built rarely."
    )

    synthetic_image_size: int = Field(384, ge=8, le=4096, description="Image size of the synthetic engine, in pixels.")
    synthetic_embedding_dim: int = Field(1152, ge=1, le=8_192, description="Embedding dimension of that engine.")
    synthetic_service_ms: float = Field(
        22.6,
        ge=0,
        le=60_000,
        description="Its time for 16 frames; so400m on an H200 at 60 % of its peak.",
    )

    @model_validator(mode="after")
    def _joins_chunks_in_flight(self) -> Self:
        if self.max_batch_chunks > self.max_in_flight:
            raise ValueError(
                f"ENCODER_MAX_BATCH_CHUNKS is {self.max_batch_chunks}, but only ENCODER_MAX_IN_FLIGHT="
                f"{self.max_in_flight} chunks are admitted; raise that to twice as many"
            )
        return self
