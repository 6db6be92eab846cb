"""Writes the Python stubs of the contract: `python protos/generate.py`, after any change of a .proto file."""

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTOS = Path(__file__).parent
# google/protobuf/*.proto
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


def generate(destination: Path) -> None:
    """Write videoanalysis/v1/*_pb2.py, .pyi and _pb2_grpc.py under `destination`; exits if a .proto is malformed."""
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    outputs = [f"--{kind}_out={destination}" for kind in ("python", "pyi", "grpc_python")]
    status = protoc.main(["protoc", f"-I{PROTOS}", f"-I{WELL_KNOWN}", *outputs, *sources])
    if status != 0:
        sys.exit(status)


if __name__ == "__main__":
    generate(PROTOS.parent)
