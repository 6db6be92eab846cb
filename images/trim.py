"""Takes out of an environment what no service opens: python trim.py /opt/venv

Tests, types, headers and static libraries; APIs of AWS and Kubernetes that are never called; commands but our own.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

DIRECTORIES = {"tests", "include", "__pycache__"}
SUFFIXES = {".a", ".h", ".hpp", ".cuh", ".pxd", ".pyi", ".pyx"}
# Modules with the name of a test, imported all the same.
KEPT = {"numpy/_core/tests"}
# Generated for every API of a cluster. The ingress uses the asynchronous client, in kubernetes/aio.
UNUSED = {"kubernetes/client/api", "kubernetes/client/models", "boto3/data", "boto3/examples"}
# S3, and what gives credentials for it: roles of service accounts and single sign-on.
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
        for name in [*directories]:
            path = Path(parent, name)
            if is_unused(path.relative_to(packages)):
                directories.remove(name)
                yield path
        yield from (Path(parent, name) for name in files if Path(name).suffix in SUFFIXES)


def is_unused(directory: Path) -> bool:
    if directory.parent.as_posix() == "botocore/data":
        return directory.name not in BOTOCORE_APIS
    return directory.as_posix() in UNUSED or (directory.name in DIRECTORIES and directory.as_posix() not in KEPT)


def other_commands(binaries: Path) -> Iterator[Path]:
    return (path for path in binaries.iterdir() if path.name not in COMMANDS and not path.name.startswith("python3."))


def size(directory: Path) -> int:
    """Bytes of the files below."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
