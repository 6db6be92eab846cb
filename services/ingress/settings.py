"""Settings of the ingress: INGRESS_<NAME> in the environment."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.ingress.dispatch import Location
from videoanalysis.limits import MAX_FRAMES_PER_CHUNK
from videoanalysis.settings import check_pair
from videoanalysis.storage.settings import S3Settings
from videoanalysis.tls import TlsFiles

MIN_KEY_BYTES = 32
# Algorithms with public keys only: a secret key that verifies tokens could also sign them.
_JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class IngressSettings(S3Settings):
    model_config = SettingsConfigDict(env_prefix="INGRESS_", frozen=True)

    port: int = Field(50051, ge=0, le=65535, description="Port of the gRPC server; 0 lets the system choose.")
    grace_seconds: float = Field(600, ge=0, description="After SIGTERM, time for videos in progress to finish.")

    encoders: Location = Field(
        description='Where the encoders are: ["encoder-0:50052", …], dns://encoder.namespace.svc:50052 or '
        "kubernetes://namespace/encoder:grpc."
    )
    decoders: Location = Field(description="Where the decoders are, in the same forms.")
    discovery_seconds: float = Field(
        5,
        ge=0.1,
        le=300,
        description="Interval at which a dns:// name is resolved.",
    )
    image_size: int = Field(
        384,
        ge=16,
        le=1024,
        description="Side of sampled frames in pixels; must equal the image size of the encoder's model.",
    )

    upstream_tls_ca: Path | None = Field(
        None,
        description="CAs of the encoders' and decoders' certificates, a PEM file that is read again when it changes; "
        "unset: plaintext.",
    )
    upstream_tls_cert: Path | None = Field(
        None, description="Certificate chain that the ingress presents to them, a PEM file."
    )
    upstream_tls_key: Path | None = Field(None, description="Its private key, a PEM file without a password.")
    encoder_tls_name: str = Field(
        "encoder", min_length=1, description="Name for which an encoder's certificate must be, whatever its address is."
    )
    decoder_tls_name: str = Field("decoder", min_length=1, description="The same of a decoder's certificate.")

    scaling_port: int | None = Field(
        None, ge=0, le=65535, description="Port of /scaling, which autoscalers read; unset: not served."
    )

    scaling_tls: bool = Field(
        False, description="Serve /scaling over TLS too, with the same files; KEDA reads it by address, without TLS."
    )

    connection_seconds: float = Field(
        60,
        gt=0,
        le=86400,
        description="Age at which a caller's connection is closed, so that its next call finds new replicas; "
        "calls in progress finish.",
    )
    tokens_file: Path | None = Field(
        None,
        description="Callers and the SHA-256 of their bearer tokens, a line each; read again when it changes. With it "
        "or jwt_keys, calls without a valid token are refused.",
    )
    jwt_keys: str | None = Field(
        None,
        description="Public keys of JSON Web Tokens, a JWKS: a file, read again when it changes, or an https:// URL, "
        "fetched every five minutes. Needs jwt_issuer and jwt_audience.",
    )
    jwt_issuer: str | None = Field(None, min_length=1, description="The claim `iss` that tokens must have.")
    jwt_audience: str | None = Field(None, min_length=1, description="The claim `aud` that tokens must have.")
    jwt_algorithms: list[_JwtAlgorithm] = Field(
        ["RS256", "ES256"], min_length=1, description="Algorithms by which tokens may be signed."
    )
    jwt_caller_claim: str = Field("sub", min_length=1, description="The claim that names the caller.")
    jwt_clock_skew_seconds: float = Field(
        30, ge=0, le=600, description="How much the issuer's clock may differ from ours."
    )
    caller_header: str | None = Field(
        None,
        pattern=r"^[a-z0-9_.-]+$",
        description="Metadata key in which a gateway names the caller. With tokens or JWT, it is accepted only from "
        "callers with `gateway: true` in the policy; otherwise from all, so the gateway must overwrite it.",
    )
    policy_file: Path | None = Field(
        None,
        description="Permissions of each caller, a YAML file that is read again when it changes. Unset: all that "
        "the other settings allow.",
    )
    resume_keys: list[SecretStr] = Field(
        [],
        description="Keys of resume tokens: the first signs, all verify. A JSON list, at least "
        f"{MIN_KEY_BYTES} bytes each, the same for every ingress. Default: no tokens.",
    )
    max_videos: int = Field(4, ge=1, le=256, description="Videos in progress: each keeps about 1.5 of the 6 CPUs busy.")
    max_waiting: int = Field(256, ge=0, description="Requests that wait for a slot; they hold no video bytes.")
    max_videos_per_caller: int | None = Field(
        None,
        ge=1,
        description="Of these, videos of one caller. Default: one fewer than max_videos if callers have names (by "
        "token, JWT or caller_header), so that one caller never holds every slot; otherwise no limit.",
    )
    max_waiting_per_caller: int | None = Field(
        None, ge=0, description="Waiting requests of one caller; more are refused. Default: no limit but max_waiting."
    )
    max_request_seconds: float = Field(3600, gt=0, description="Longest, and default, deadline of a request.")
    heartbeat_seconds: float = Field(
        10,
        gt=0,
        le=15,
        description="Interval without a message after which a stream repeats its progress; gateways close silent "
        "streams, many after 60 s.",
    )
    chunks_ahead: int = Field(4, ge=1, description="Chunks of one video queued between sampling and decoding.")
    frame_budget_bytes: int = Field(256 << 20, description="Memory for sampled frames, all videos together.")

    attempt_seconds: float = Field(30, gt=0, description="Longest time of one attempt at an encoder or decoder.")
    replica_wait_seconds: float = Field(30, ge=0, description="How long to wait while no encoder or decoder answers.")
    cold_start_seconds: float = Field(
        0,
        ge=0,
        description="How long to wait while there are no replicas, for example scaled to zero, if that is longer.",
    )

    allowed_buckets: list[str] = Field([], description='Buckets that callers may name; ["*"] for all.')
    allowed_file_roots: list[Path] = Field([], description="Directories of which callers may name file:// paths.")
    allowed_https_prefixes: list[str] = Field([], description="Prefixes, up to a /, of https:// URIs callers may name.")
    allowed_https_networks: list[IPv4Network | IPv6Network] = Field(
        [], description='Networks, such as "10.1.0.0/16", that https:// hosts may be in although they are not public.'
    )
    allowed_output_prefixes: list[str] = Field([], description="Prefixes of s3:// URIs to which responses may go.")

    scratch_dir: Path | None = Field(None, description="Directory for downloads. Default: the system's.")
    scratch_bytes: int = Field(20 << 30, description="Disk space for downloads, all videos together.")
    max_object_bytes: int = Field(10 << 30, gt=0, description="Largest video file.")
    max_pixels: int = Field(8192 * 4320, gt=0, description="Largest frame, width times height.")
    max_video_seconds: float = Field(6 * 3600, gt=0, description="Longest video.")
    max_encoded_frames: int = Field(
        200_000,
        ge=MAX_FRAMES_PER_CHUNK,
        description="Frames of a request that encoders embed; repeated frames of a chunk count once. One that takes "
        "more is INVALID_ARGUMENT.",
    )
    max_packets: int = Field(4_000_000, gt=0, description="Packets in the video stream.")
    require_sandbox: bool = Field(
        False, description="Do not start where sampling processes cannot be confined by Landlock and seccomp."
    )
    sampling_memory_bytes: int = Field(
        6 << 30,
        ge=0,
        description="Memory for decoding large pictures, of all sampling processes together, beyond the 336 MiB that "
        "each of max_videos may always use.",
    )
    sampler_cpu_seconds: int = Field(3600, gt=0, description="CPU time that one video may take to sample.")
    sampler_stall_seconds: float = Field(
        120, gt=0, description="Wall time after which a sampling process that makes no progress is replaced."
    )

    @field_validator("resume_keys")
    @classmethod
    def _check_key_length(cls, keys: list[SecretStr]) -> list[SecretStr]:
        if any(len(key.get_secret_value().encode()) < MIN_KEY_BYTES for key in keys):
            raise ValueError(f"each key must have at least {MIN_KEY_BYTES} bytes; `openssl rand -base64 48` makes one")
        return keys

    def resume_key_bytes(self) -> list[bytes]:
        return [key.get_secret_value().encode() for key in self.resume_keys]

    @model_validator(mode="after")
    def _check_upstream_tls(self) -> Self:
        check_pair(self, "upstream_tls_cert", "upstream_tls_key")
        if self.upstream_tls_cert is not None and self.upstream_tls_ca is None:
            raise ValueError("upstream_tls_ca: needed with upstream_tls_cert")
        if self.scaling_tls and self.tls_cert is None:
            raise ValueError("scaling_tls: needs tls_cert")
        return self

    @model_validator(mode="after")
    def _check_authentication(self) -> Self:
        if self.jwt_keys is not None:
            if "://" in self.jwt_keys and not self.jwt_keys.startswith("https://"):
                raise ValueError("jwt_keys: must be a file or an https:// URL")
            for needed in ("jwt_issuer", "jwt_audience"):
                if getattr(self, needed) is None:
                    raise ValueError(f"{needed}: needed with jwt_keys")
        if self.policy_file is not None and not self.knows_callers:
            raise ValueError("policy_file: needs tokens_file, jwt_keys or caller_header, which name the callers")
        return self

    @property
    def knows_callers(self) -> bool:
        """Whether calls come with the name of their caller."""
        return any(setting is not None for setting in (self.tokens_file, self.jwt_keys, self.caller_header))

    def slots_per_caller(self) -> int:
        if self.max_videos_per_caller is not None:
            return self.max_videos_per_caller
        return max(1, self.max_videos - 1) if self.knows_callers else self.max_videos

    def upstream_tls(self) -> TlsFiles | None:
        """The files of TLS to encoders and decoders; None for plaintext."""
        if self.upstream_tls_ca is None:
            return None
        return TlsFiles(self.upstream_tls_cert, self.upstream_tls_key, self.upstream_tls_ca)

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        largest_chunk = MAX_FRAMES_PER_CHUNK * self.image_size**2 * 3
        if self.frame_budget_bytes < largest_chunk:
            raise ValueError(
                f"frame_budget_bytes: must hold the largest chunk, {largest_chunk} bytes at this image size"
            )
        if self.scratch_bytes < self.max_object_bytes:
            raise ValueError("scratch_bytes: must hold at least one object of max_object_bytes")
        return self
