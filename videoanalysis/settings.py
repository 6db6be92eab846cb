"""Settings from environment variables: those of every service, and error messages for invalid values."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from videoanalysis.errors import FailedPrecondition
from videoanalysis.logs import LogFormat
from videoanalysis.reloaded_files import InvalidFile
from videoanalysis.server_tls import ServerTls
from videoanalysis.tls import TlsFiles


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Leaves invalid JSON to validation, which reports it together with all other errors."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class ServiceSettings(BaseSettings):
    """Settings that every service has, each under the service's own prefix. An empty variable means the default."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    host: str = Field("0.0.0.0", description="Address to listen on; 0.0.0.0 and :: are all of IPv4 and IPv6.")
    port: int = Field(ge=0, le=65535, description="Port of the gRPC server; 0 lets the system choose.")
    health_port: int | None = Field(
        None, ge=0, le=65535, description="Separate plaintext port for health checks; unset: not served."
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port on which Prometheus reads /metrics; unset: not served."
    )
    tls_cert: Path | None = Field(
        None,
        description="Certificate chain of the server, a PEM file that is read again when it changes; unset: plaintext.",
    )
    tls_key: Path | None = Field(None, description="Its private key, a PEM file without a password.")
    tls_client_ca: Path | None = Field(
        None, description="CAs, a PEM file: callers must present a certificate of theirs. Unset: none is required."
    )
    metrics_tls: bool = Field(False, description="Serve /metrics over TLS too, with the same files.")
    address_file: Path | None = Field(None, description="File to write host:port to once the service listens.")
    drain_delay_seconds: float = Field(
        0,
        ge=0,
        description="After SIGTERM, time for callers to notice before calls are refused.",
    )
    grace_seconds: float = Field(ge=0, description="After the drain delay, time for calls in progress to finish.")
    max_connections: int = Field(1024, ge=1, description="Connections at a time; more are closed at once.")
    idle_connection_seconds: float = Field(
        300, gt=0, le=86400, description="After that time without a call, a connection is closed."
    )
    max_calls_per_connection: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Calls that a connection may have open; from half of that on, gRPC refuses some at random.",
    )
    max_calls_per_peer: int = Field(
        1024, ge=1, description="Calls that may be open from one IP address; more are refused."
    )
    first_message_seconds: float = Field(
        5,
        gt=0,
        le=600,
        description="Time in which a connection must be set up, and the first message of a call must arrive.",
    )
    write_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="Time in which a caller must take a message; one that does not read loses its call.",
    )
    reflection: bool = Field(True, description="Serve gRPC reflection, so that grpcurl needs no proto files.")
    log_level: str = Field("INFO", pattern="(?i)^(debug|info|warning|error)$", description="debug to error.")
    log_format: LogFormat = Field("json", description="json: an object a line; console: text for people.")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        check_pair(self, "tls_cert", "tls_key")
        for needs_cert in ("tls_client_ca", "metrics_tls"):
            if getattr(self, needs_cert) and self.tls_cert is None:
                raise ValueError(f"{needs_cert}: needs tls_cert")
        return self

    @property
    def server_tls(self) -> ServerTls | None:
        """TLS of all ports but that of health; None without a certificate."""
        if self.tls_cert is None:
            return None
        return ServerTls(self.variable("tls_cert"), TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca))

    def effective(self) -> dict[str, object]:
        """The value of every setting, for the log; secrets are masked."""
        return self.model_dump(mode="json")

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment variable of the setting `name`."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return host.removeprefix("[").removesuffix("]")

    def address(self, port: int) -> str:
        """host:port as gRPC and URIs have it, with brackets around an IPv6 address."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)


def check_pair(settings: BaseSettings, cert: str, key: str) -> None:
    """Raises ValueError unless both settings or neither have a value."""
    for one, other in ((cert, key), (key, cert)):
        if getattr(settings, one) is None and getattr(settings, other) is not None:
            raise ValueError(f"{one}: needed with {other}")


@contextmanager
def exit_on_invalid_file() -> Iterator[None]:
    """Ends the process with exit code 2 and a line on stderr if what a setting names cannot be used."""
    try:
        yield
    except (InvalidFile, FailedPrecondition) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


_Settings = TypeVar("_Settings", bound=BaseSettings)


def read_settings(kind: type[_Settings]) -> _Settings:
    """Settings from the environment; ends the process with exit code 2 and a line on stderr for each wrong variable.

    Errors of model validators begin with the name of a setting and a colon.
    """
    try:
        return kind()
    except ValidationError as error:
        for problem in error.errors():
            print(_error_line(kind, problem), file=sys.stderr)
        sys.exit(2)


def _error_line(kind: type[BaseSettings], problem: ErrorDetails) -> str:
    # Without the value, which may be a secret or many lines.
    message = problem["msg"].removeprefix("Value error, ")
    name, *inside = problem["loc"] or message.split(":")[:1]
    message = message.removeprefix(f"{name}: ")
    field = kind.model_fields.get(str(name))
    meaning = f" ({field.description})" if field is not None and field.description else ""
    variable = f"{kind.model_config.get('env_prefix', '')}{name}".upper()
    return f"{variable}{''.join(f'[{part}]' for part in inside)}: {message}{meaning}"
