"""`python -m services.encoder.fetch MODEL`: downloads a checkpoint before the encoder starts, and verifies its digest.

A hub id is downloaded to HF_HOME; a directory is only verified. The checkpoint may be a prepared one, whose digest is
that of its source. Prints the digest. Exits with 1 if it is not the one in --digest, with 2 if there is no such
checkpoint or a file of a prepared one is damaged.
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
    parser.add_argument("--digest", help="sha256:…, the expected digest of the files")
    options = parser.parse_args()
    try:
        found = checkpoint.resolve(options.model, options.revision)
        digest = found.digest
        found.require_intact()
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(digest)
    if options.digest not in (None, digest):
        print(
            f"{options.model}: the digest of its files is {digest}, not {options.digest} as expected.",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
