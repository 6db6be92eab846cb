"""Settings of the decoder, read once from DECODER_… environment variables."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from videoanalysis.errors import InvalidInput
from videoanalysis.limits import is_bank_name
from videoanalysis.storage import S3Uri
from videoanalysis.storage.settings import S3Settings


class DecoderSettings(S3Settings):
    model_config = SettingsConfigDict(env_prefix="DECODER_")

    port: int = Field(50053, ge=0, le=65535, description="Port of the gRPC server; 0 lets the system choose.")
    grace_seconds: float = Field(
        30,
        ge=0,
        description="After the drain delay, time for calls in progress to finish; those with large banks take longest.",
    )
    banks: str = Field(
        "",
        description="Location of the text banks: a directory or s3://bucket/prefix/. Empty: no banks; calls with "
        "labels get tags and no caption, others UNAVAILABLE.",
    )
    expected_banks: list[str] = Field(
        ["default"],
        max_length=100,
        description="Names of banks that are to come: until they are loaded, calls that name them get UNAVAILABLE "
        "and may be repeated. Any other name of no bank is NOT_FOUND.",
    )
    banks_refresh_seconds: float = Field(
        5, gt=0, description="Interval between checks for new, changed and removed banks."
    )
    max_bank_bytes: int = Field(1 << 28, gt=0, description="Larger files are rejected; each bank is held in memory.")
    compute_threads: int = Field(1, ge=1, description="Threads that rank against large banks; about the pod's CPUs.")

    @field_validator("expected_banks")
    @classmethod
    def _are_bank_names(cls, names: list[str]) -> list[str]:
        if not all(map(is_bank_name, names)):
            raise ValueError("each must have 1 to 100 letters, digits, dots, dashes or underscores")
        return names

    @field_validator("banks")
    @classmethod
    def _is_a_location(cls, banks: str) -> str:
        if banks.startswith("s3://"):
            try:
                S3Uri.parse(banks, "banks")
            except InvalidInput as error:
                raise ValueError("must be a directory or of the form s3://bucket/prefix/") from error
        return banks
