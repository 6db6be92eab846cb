"""Removes files that no service uses from a virtual environment: python trim.py /opt/venv

Tests, types, headers and static libraries; APIs of AWS and Kubernetes that are never called; commands but our own.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

DIRECTORIES = {"tests", "include", "__pycache__"}
SUFFIXES = {".a", ".h", ".hpp", ".cuh", ".pxd", ".pyi", ".pyx"}
# A module for every call to a cluster and for what it answers; the ingress uses those in kubernetes/aio.
SYNCHRONOUS = {"kubernetes/client/api", "kubernetes/client/models"}
# Descriptions of APIs: S3, and what gives credentials for it, to the role of a service account or by single sign-on.
BOTOCORE_APIS = {"s3", "sts", "sso", "sso-oidc", "signin"}
COMMANDS = {"python", "python3", "videoanalysis"}


def main(environment: Path) -> None:
    (packages,) = environment.glob("lib/python3.*/site-packages")
    before = size(environment)
    for path in [*unused(packages), *other_commands(environment / "bin")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    print(f"{environment}: {before >> 20} MiB, now {size(environment) >> 20} MiB")


def unused(packages: Path) -> Iterator[Path]:
    """Files and directories to remove, none of them inside another."""
    for parent, directories, files in os.walk(packages):
        inside = Path(parent).relative_to(packages).as_posix()
        apis = {name for name in directories if inside == "botocore/data" and name not in BOTOCORE_APIS}
        gone = DIRECTORIES.intersection(directories) | apis
        directories[:] = [name for name in directories if name not in gone]
        yield from (Path(parent, name) for name in gone)
        for name in files:
            if Path(name).suffix in SUFFIXES or (inside in SYNCHRONOUS and name != "__init__.py"):
                yield Path(parent, name)


def other_commands(binaries: Path) -> Iterator[Path]:
    return (path for path in binaries.iterdir() if path.name not in COMMANDS and not path.name.startswith("python3."))


def size(directory: Path) -> int:
    """Bytes of the files below."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
