"""The environment variables of the services of a stack."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from videoanalysis.cores import cores

Kind = Literal["ingress", "encoder", "decoder"]

BUCKET = "videoanalysis"
# Access key and secret; the S3 server takes any.
CREDENTIALS = ("stack", "stack")
REGION = "us-east-1"

# Settings that connect the processes of a stack with each other, which the environment must not have.
_LISTENING = ("host", "port", "address_file")
_WIRING: dict[Kind, tuple[str, ...]] = {
    "ingress": ("encoders", "decoders", "image_size", "resume_keys", "s3_endpoint_url", "s3_region"),
    "encoder": ("engine", "model"),
    "decoder": ("banks", "s3_endpoint_url", "s3_region"),
}
# Of `videoanalysis up`.
_OPTIONS = {"INGRESS_PORT": "--port", "ENCODER_MODEL": "--model", "ENCODER_ENGINE": "--engine"}

_GRACE_SECONDS = 5


def service_environment(
    kind: Kind,
    wiring: Mapping[str, object],
    settings: Mapping[str, object],
    *,
    directory: Path,
    encoders: int,
) -> dict[str, str]:
    """The environment of one service process.

    Precedence, lowest first: the stack's defaults, the environment of this process, the `wiring` that connects the
    processes with each other, and the caller's `settings`.
    """
    environment = inherited_environment(directory)
    if os.path.isdir(str(wiring.get("model", ""))):
        environment["HF_HUB_OFFLINE"] = "1"
    defaults = variables(kind, _defaults(kind, encoders))
    return {**defaults, **environment, **variables(kind, {**wiring, **settings})}


def inherited_environment(directory: Path) -> dict[str, str]:
    """The environment of this process, with the credentials and the temporary `directory` of the stack."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    access_key, secret = CREDENTIALS
    return inherited | {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "TMPDIR": str(directory),
    }


def overridden_variable() -> str | None:
    """A message about a variable of this process that the stack would override; None if there is none."""
    for kind, names in _WIRING.items():
        for variable in variables(kind, dict.fromkeys((*_LISTENING, *names), "")):
            if os.environ.get(variable):
                option = f", and use {_OPTIONS[variable]}" if variable in _OPTIONS else ""
                return f"{variable}: the stack sets it itself; unset it{option}"
    return None


def variables(kind: Kind, settings: Mapping[str, object]) -> dict[str, str]:
    """The environment variables from which the service reads `settings`."""
    return {f"{kind.upper()}_{name.upper()}": _encoded(value) for name, value in settings.items()}


def _defaults(kind: Kind, encoders: int) -> dict[str, object]:
    common: dict[str, object] = {"grace_seconds": _GRACE_SECONDS}
    match kind:
        case "ingress":
            # The S3 server contains only objects of this stack.
            return {**common, "allowed_buckets": ["*"], "allowed_output_prefixes": [f"s3://{BUCKET}/results/"]}
        case "encoder":
            # Leaves a core for sampling.
            return {**common, "torch_threads": max(1, cores() // encoders - 1)}
        case "decoder":
            return {**common, "banks_refresh_seconds": 1}


def _encoded(value: object) -> str:
    """The text that pydantic-settings parses as `value`."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
