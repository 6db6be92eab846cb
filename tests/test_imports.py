"""Which part may import which: the law of the source, and what a process really loads."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__main__.py").exists())

# What may be missing; the one check that needs it then says so.
DONE_WITHOUT = {("av", "services/encoder/verification.py")}


def imports(directory: str) -> Iterator[tuple[str, str]]:
    """Every module that is imported anywhere in the files of `directory`, with the file."""
    for path in sorted((ROOT / directory).rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name, file) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: a relative import"
                # `from services import encoder` imports services.encoder.
                yield from ((f"{node.module}.{alias.name}", file) for alias in node.names)


def parts(directory: str) -> set[tuple[str, str]]:
    """Our own parts among them, such as services.encoder."""
    ours = {"services", "videoanalysis", "tests", "benchmarks", "loadtest"}
    found = ((module.split("."), file) for module, file in imports(directory))
    return {
        (".".join(words[:2]) if words[0] == "services" else words[0], file) for words, file in found if words[0] in ours
    }


def test_there_are_three_services():
    assert SERVICES == ["decoder", "encoder", "ingress"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_the_library_and_itself(service):
    allowed = {f"services.{service}", "videoanalysis"}
    assert {part for part, _ in parts(f"services/{service}")} == allowed


def test_the_library_imports_no_service():
    assert {part for part, _ in parts("videoanalysis")} == {"videoanalysis"}


# The parts of videoanalysis/, each importing only itself and those after it. Modules not named here are the library of
# services and callers.
PARTS = [
    "cli",
    "report",
    "samples",
    "scaling",
    "selftest",
    "stack",
    "formatting",
    "client",
    "attempts",
    "partial_analysis",
    "retries",
    "redecoding",
    "video_analysis",
]


def part_of(module: str) -> str:
    name = module.split(".")[1] if "." in module else ""
    return name if name in PARTS else "library"


def test_the_parts_of_the_library_import_in_one_direction():
    order = [*PARTS, "library"]
    backwards = [
        f"{module} in {file}"
        for module, file in imports("videoanalysis")
        if module.startswith("videoanalysis.")
        # It names the client for its users, and imports it when it is used.
        and file != "videoanalysis/__init__.py"
        and order.index(part_of(module)) < order.index(part_of(file.removesuffix(".py").replace("/", ".")))
    ]
    assert backwards == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_declares_what_it_imports(service):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *extras["service"], *extras[service]]
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in required}
    providers = packages_distributions()
    undeclared = [
        f"{module} in {file}"
        for module, file in imports(f"services/{service}")
        if (top := module.split(".")[0]) not in {"services", "videoanalysis", *sys.stdlib_module_names}
        and not declared & {name.lower().replace("_", "-") for name in providers.get(top, ())}
        and (top, file) not in DONE_WITHOUT
        # Where the bundled model is made, once and by its makers.
        and not file.startswith("services/encoder/bundled/")
    ]
    assert undeclared == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("services.ingress.__main__", {"torch", "transformers", "av", "kubernetes"}),
        ("services.decoder.__main__", {"torch", "transformers", "av"}),
        # The stand-in engine must start fast, and without what only the real one needs.
        ("services.encoder.__main__", {"torch", "transformers", "av"}),
        ("videoanalysis.cli", {"torch", "transformers", "av", "kubernetes"}),
        ("videoanalysis.scaling.explanation", {"kubernetes"}),
        # Each video is sampled in such a process.
        ("services.ingress.sampling.worker", {"grpc", "structlog", "pydantic", "prometheus_client"}),
        ("services.ingress.resume", {"grpc"}),
        ("videoanalysis.errors", {"grpc"}),
        ("videoanalysis.client", {"torch", "transformers", "av", "aiobotocore", "pydantic", "structlog"}),
    ],
)
def test_a_process_does_not_load(module, absent):
    program = f"import sys, {module}; print(*sorted({absent} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
