"""The layers of the ingress: imports run one way, and into a package only through its `__init__`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import services.ingress

ROOT = Path(services.ingress.__file__).parent

# Each part imports only parts to its right.
ORDER = [
    *(
        "__main__",
        "servicer",
        "pipeline",
        "video_run",
        "stored_video",
        "timed_media",
        "pinned_model",
        "resume",
        "answer",
        "job",
        "settings",
    ),
    *("dispatch", "sources", "sampling", "admission"),
]
FOLDERS = [part for part in ORDER if (ROOT / part).is_dir()]
# Outside of the layers: these read the counts of admission, and every part may import them.
ANYWHERE = {"metrics", "scaling_endpoint"}


def imports() -> Iterator[tuple[str, str, list[str], str]]:
    """The part of each import in the ingress, the part it imports, the rest of the path, and the file."""
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                if module.startswith("services.ingress."):
                    imported, *rest = module.split(".")[2:]
                    yield part, imported, rest, path.relative_to(ROOT).as_posix()


def test_every_part_has_a_place_in_the_order():
    parts = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} == set(ORDER) | ANYWHERE


def test_imports_run_one_way():
    wrong = {
        f"{file} imports {imported}"
        for part, imported, _, file in imports()
        if part != imported
        and (
            imported not in ANYWHERE | {"admission"}
            if part in ANYWHERE
            else imported not in ANYWHERE and ORDER.index(imported) < ORDER.index(part)
        )
    }
    assert wrong == set()


def test_a_folder_is_entered_through_its_init_alone():
    wrong = {
        f"{file} imports {'.'.join([imported, *rest])}"
        for part, imported, rest, file in imports()
        if imported in FOLDERS and part != imported and len(rest) != 1
    }
    assert wrong == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_states_what_goes_in_and_what_comes_out(folder):
    first_line = (ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or "").partition("\n")[0]
    assert {" in", " out"} <= {word for word in (" in", " out") if word in first_line}, first_line
