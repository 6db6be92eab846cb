"""What each caller may do, from a YAML file of the operator."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from videoanalysis.errors import PermissionDenied
from videoanalysis.v1.analysis_pb2 import PRIORITY_BATCH, PRIORITY_UNSPECIFIED, Priority
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_MAX_BYTES = 1 << 20


def _starts_with(*schemes: str) -> Callable[[str], str]:
    def check(prefix: str) -> str:
        scheme = next((scheme for scheme in schemes if prefix.startswith(scheme)), None)
        if scheme is None or not prefix.endswith("/") or prefix in ("s3://", "https://") or _has_dot_segment(prefix):
            raise ValueError(
                f"must begin with {' or '.join(schemes)}, name a bucket, host or directory, and end with /"
            )
        return prefix

    return check


_SourcePrefix = Annotated[str, AfterValidator(_starts_with("s3://", "https://", "file:///"))]
_OutputPrefix = Annotated[str, AfterValidator(_starts_with("s3://"))]


class Permissions(BaseModel):
    """What one caller may do, within what the settings of the ingress allow to all; a field left out allows as much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: list[_SourcePrefix] | None = None
    outputs: list[_OutputPrefix] | None = None
    max_videos: int | None = Field(default=None, ge=1)
    max_waiting: int | None = Field(default=None, ge=0)
    batch_only: bool = False
    # It calls on behalf of others and names them in the header of the setting `caller_header`.
    gateway: bool = False

    def check_source(self, uri: str) -> None:
        # The sample clip is public.
        if not uri.startswith("sample://"):
            _check_prefix(uri, self.sources, "video_uri")

    def check_output(self, uri: str) -> None:
        if uri:
            _check_prefix(uri, self.outputs, "output_uri")

    def priority(self, wanted: Priority) -> Priority:
        """`wanted`, or batch for a caller that may only have that; raises PermissionDenied if it wants another."""
        if not self.batch_only:
            return wanted
        if wanted not in (PRIORITY_UNSPECIFIED, PRIORITY_BATCH):
            raise _denied("only PRIORITY_BATCH is allowed to this caller", "priority")
        return PRIORITY_BATCH


class Policy(BaseModel):
    """Permissions by caller; `default` has those of all others, who are refused without it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Permissions | None = None
    callers: dict[Annotated[str, Field(min_length=1)], Permissions] = {}

    def of(self, caller: str) -> Permissions:
        """Raises PermissionDenied for a caller without permissions."""
        found = self.callers.get(caller, self.default)
        if found is None:
            raise _denied("the policy has no entry for this caller and no default", None)
        return found


def read_policy(path: Path) -> Policy:
    """Raises OSError, or ValueError with one line that names the place of the error."""
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ValueError(f"{path} has more than {_MAX_BYTES} bytes")
    try:
        content = yaml.load(text, _UniqueKeys)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ValueError(f"{path}: line {line}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML") from error
    try:
        return Policy.model_validate(content if content is not None else {})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise ValueError(f"{path}: {place}: {problem['msg'].removeprefix('Value error, ')}") from error


class _UniqueKeys(yaml.SafeLoader):
    """Of two entries for one caller, YAML would silently take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping: Mapping[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is there twice", node.start_mark)
        return mapping


def _check_prefix(uri: str, allowed: list[str] | None, field: str) -> None:
    if allowed is not None and (_has_dot_segment(uri) or not uri.startswith(tuple(allowed))):
        raise _denied(f"{field}: not under a prefix that the operator allows to this caller", field)


def _has_dot_segment(uri: str) -> bool:
    """Whether a path segment is `.` or `..`, also percent-encoded: it would lead out of the prefix."""
    return any(segment in (".", "..") for text in (uri, unquote(uri)) for segment in text.split("/"))


def _denied(message: str, field: str | None) -> PermissionDenied:
    return PermissionDenied(message, reason=ErrorReason.CALLER_NOT_ALLOWED, field=field)
