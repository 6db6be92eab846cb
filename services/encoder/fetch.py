"""`python -m services.encoder.fetch MODEL`: have a checkpoint here before an encoder starts, and be sure of it.

A hub id is downloaded to where HF_HOME says; of a directory there is nothing to fetch. Prints the digest. Exits with 1
if it is not the one that was asked for, with 2 if there is no such checkpoint.
"""

import argparse
import sys

from services.encoder import checkpoint
from services.encoder.engine import StartupError
from videoanalysis.server import exit_on_signals


def main() -> None:
    exit_on_signals()
    parser = argparse.ArgumentParser(prog="python -m services.encoder.fetch")
    parser.add_argument("model", metavar="MODEL", help="a directory or a Hugging Face hub id")
    parser.add_argument("--revision", help="commit of the hub id")
    parser.add_argument("--digest", help="sha256:…, what the files must add up to")
    asked = parser.parse_args()
    try:
        digest = checkpoint.resolve(asked.model, asked.revision).digest
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(digest)
    if asked.digest not in (None, digest):
        print(
            f"{asked.model} is not what was asked for: its files add up to {digest}, not {asked.digest}.",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
