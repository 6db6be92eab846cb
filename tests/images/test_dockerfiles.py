"""What the images are made of and run as, read from the Dockerfiles: no builder is needed."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.decoder.settings import DecoderSettings
from services.encoder.settings import EncoderSettings
from services.ingress.settings import IngressSettings
from tests.images.dockerfile import ROOT, in_the_context, stages

SETTINGS = {"ingress": IngressSettings, "encoder": EncoderSettings, "decoder": DecoderSettings}
SERVICES = sorted(SETTINGS)

# The packages that are named are not there, as in an image that does not install them.
IMPORTS_ONLY = """
import importlib, sys
absent, modules = map(str.split, sys.argv[1:])

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"not in the image: {name}", name=name)

sys.meta_path.insert(0, Absent())
for module in modules:
    importlib.import_module(module)
"""


def installed_with(service: str) -> set[str]:
    """Names of the distributions that `pip install '.[service]'` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [*map(Requirement, [*project["dependencies"], *extras[service]])]
    found: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in [*requirement.extras, ""]:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            if name == "videoanalysis":
                waiting += map(Requirement, extras[extra] if extra else [])
                continue
            needs = map(Requirement, requires(name) or [])
            waiting += [need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in found} - {"videoanalysis"}


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}


def imported_at_build(service: str) -> list[str]:
    (command,) = [line for line in stages(service)[-1].all("RUN") if line.startswith("python -c")]
    return re.findall(r"[\w.]+", command.split("import ", 1)[1])


@pytest.mark.parametrize("service", SERVICES)
def test_it_runs_as_a_number_that_is_not_root(service):
    user, group = stages(service)[-1].last("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("service", SERVICES)
def test_it_starts_the_service_without_a_shell_that_would_keep_sigterm_to_itself(service):
    final = stages(service)[-1]
    assert final.exec_form("ENTRYPOINT") == ["python", "-m", f"services.{service}"]
    assert final.all("CMD") == []


@pytest.mark.parametrize("service", SERVICES)
def test_it_exposes_the_default_port_and_one_for_each_port_that_is_off_by_default(service):
    fields = SETTINGS[service].model_fields
    first, *others = stages(service)[-1].last("EXPOSE").split()
    assert int(first) == fields["port"].default
    off_by_default = {name for name, field in fields.items() if name.endswith("_port") and field.default is None}
    assert len(set(others)) == len(off_by_default) == (3 if service == "ingress" else 2)


@pytest.mark.parametrize("service", SERVICES)
def test_the_base_is_chosen_by_one_argument(service):
    text = (ROOT / "services" / service / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=docker\.io/library/python:3\.12-slim$", text, re.MULTILINE)
    assert [stage.base.split()[0] for stage in stages(service)] == ["${BASE}", "${BASE}"]


@pytest.mark.parametrize("service", SERVICES)
def test_it_installs_its_own_extra_in_pinned_versions(service):
    build, final = stages(service)
    (install,) = [line for line in build.all("RUN") if " install " in line]
    assert f"--editable '.[{service},tracing]'" in install
    assert "--no-deps --require-hashes -r requirements.lock" in install
    assert f"services/{service}/requirements.lock" in build.copied_from_the_context()
    assert build.environment()["PIP_CONSTRAINT"] == "/app/constraints.txt"
    assert "constraints.txt" in build.copied_from_the_context()
    assert [line for line in final.all("RUN") if re.search(r"\bpip3? install\b|\bapt|\bapk\b", line)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_version_that_it_installs_is_pinned(service):
    assert installed_with(service) - pinned() == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_version_has_hashes_and_is_the_one_of_the_constraints(service):
    text = (ROOT / "services" / service / "requirements.lock").read_text().replace("\\\n", "")
    locked = {}
    for line in filter(None, re.sub("#.*", "", text).splitlines()):
        requirement, _, hashes = line.partition(" --hash=sha256:")
        assert hashes, requirement
        parsed = Requirement(requirement)
        locked[canonicalize_name(parsed.name)] = str(parsed.specifier)
    constraints = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    versions = {canonicalize_name(pin.name): str(pin.specifier) for pin in constraints}
    assert {name: version for name, version in locked.items() if versions.get(name, version) != version} == {}
    # What torch is made of depends on the accelerator, and comes from an index of its own.
    of_torch = {"torch", "triton"} if service == "encoder" else set()
    missing = installed_with(service) - locked.keys() - of_torch
    assert {name for name in missing if not name.startswith(("nvidia-", "cuda-"))} == set()


def test_what_the_project_is_built_with_is_pinned():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert {Requirement(line).name for line in build["requires"]} <= pinned()


@pytest.mark.parametrize("service", SERVICES)
def test_no_index_is_named(service):
    text = (ROOT / "services" / service / "Dockerfile").read_text()
    assert not re.search(r"index-url|find-links|trusted-host|https?://|_INDEX", text)


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_copied_exists_and_is_let_through(service):
    for stage in stages(service):
        for source in stage.copied_from_the_context():
            assert (ROOT / source).exists(), source
            assert in_the_context(source), source


@pytest.mark.parametrize("service", SERVICES)
def test_no_other_service_is_copied(service):
    copied = stages(service)[-1].copied_from_the_context()
    assert {path for path in copied if path.startswith("services")} == {"services/__init__.py", f"services/{service}"}


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        ".venv/bin/python",
        "build/report.html",
        "tests/conftest.py",
        "services/ingress/__pycache__",
        "helm",
        ".env",
    ],
)
def test_what_no_image_needs_stays_out_of_the_build(path):
    assert not in_the_context(path)


def test_the_decoder_image_holds_the_texts_and_the_encoder_image_the_bundled_model():
    assert "textbanks" in stages("decoder")[-1].copied_from_the_context()
    assert (ROOT / "services/encoder/bundled/rendered-scenes/model.safetensors").exists()
    assert in_the_context("services/encoder/bundled/rendered-scenes/model.safetensors")


@pytest.mark.parametrize("service", ["ingress", "decoder"])
def test_no_machine_learning_framework_is_installed(service):
    heavy = {"torch", "transformers", "tokenizers", "huggingface-hub", "triton"}
    assert heavy <= installed_with("encoder")
    assert installed_with(service) & heavy == set()


def test_the_decoder_image_can_open_no_video():
    assert "av" in installed_with("ingress")
    assert installed_with("decoder") & {"av", "kubernetes", "pillow"} == set()


@pytest.mark.parametrize("service", ["ingress", "decoder"])
def test_it_imports_what_it_runs_from_what_is_installed(service):
    modules = imported_at_build(service)
    assert f"services.{service}.__main__" in modules
    done = imports_only(installed_with(service), modules)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_import_of_what_is_not_installed_fails():
    done = imports_only(installed_with("decoder"), ["services.decoder.__main__", "av"])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: not in the image: av"


def imports_only(installed: set[str], modules: list[str]) -> "subprocess.CompletedProcess[str]":
    """A process that imports `modules`, with only the `installed` distributions in addition to our own packages."""
    providers = packages_distributions()
    absent = [top for top, names in providers.items() if not installed & {canonicalize_name(name) for name in names}]
    program = [sys.executable, "-c", IMPORTS_ONLY, " ".join(set(absent) - {"videoanalysis"}), " ".join(modules)]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
