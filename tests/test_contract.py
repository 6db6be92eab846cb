"""The .proto files: their comments, and the stubs generated from them."""

import importlib.util
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generator():
    """protos/generate.py, which lies in no package."""
    specification = importlib.util.spec_from_file_location("generate", ROOT / "protos" / "generate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(generator, tmp_path_factory) -> list[FileDescriptorProto]:
    """The .proto files with their comments."""
    written = tmp_path_factory.mktemp("protos") / "descriptors"
    sources = [str(path) for path in generator.PROTOS.rglob("*.proto")]
    options = [f"-I{generator.PROTOS}", f"-I{generator.WELL_KNOWN}", "--include_source_info"]
    assert protoc.main(["protoc", *options, f"--descriptor_set_out={written}", *sources]) == 0
    return list(FileDescriptorSet.FromString(written.read_bytes()).file)


def undocumented(file: FileDescriptorProto) -> list[str]:
    """Names without a comment. The message of a request or response needs none: its method has it."""
    commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
    places: dict[str, tuple[int, ...]] = {}
    for i, service in enumerate(file.service):
        places[service.name] = (6, i)
        places |= {f"{service.name}.{method.name}": (6, i, 2, j) for j, method in enumerate(service.method)}
    for i, message in enumerate(file.message_type):
        if not message.name.endswith(("Request", "Response")):
            places[message.name] = (4, i)
        places |= {f"{message.name}.{field.name}": (4, i, 2, j) for j, field in enumerate(message.field)}
    for i, enum in enumerate(file.enum_type):
        places[enum.name] = (5, i)
        places |= {f"{enum.name}.{value.name}": (5, i, 2, j) for j, value in enumerate(enum.value) if value.number != 0}
    return [name for name, path in places.items() if path not in commented]


def test_the_stubs_are_those_of_the_protos(generator, tmp_path):
    generator.generate(tmp_path)
    generated = {path.name: path.read_bytes() for path in (tmp_path / "videoanalysis" / "v1").iterdir()}
    checked_in = {path.name: path.read_bytes() for path in (ROOT / "videoanalysis" / "v1").glob("*_pb2*")}
    assert sorted(generated) == sorted(checked_in)
    outdated = [name for name in generated if generated[name] != checked_in[name]]
    assert outdated == [], "run: python protos/generate.py"


def test_everything_in_the_contract_has_a_comment(files):
    assert {file.package for file in files} == {"videoanalysis.v1"}
    assert [name for file in files for name in undocumented(file)] == []
