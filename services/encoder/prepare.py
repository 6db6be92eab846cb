"""`python -m services.encoder.prepare MODEL DIRECTORY`: converts a checkpoint once, so that encoders start faster.

DIRECTORY then holds both towers in bfloat16, a file each, and configuration and tokenizer as they are; its digest is
that of MODEL. Exits with 1 if that is not the one in --digest, with 2 if there is no such checkpoint or DIRECTORY
cannot be written.
"""

import argparse
import signal
import sys
from pathlib import Path

from services.encoder import checkpoint
from services.encoder.engine import StartupError


def main() -> None:
    # By an exception, so that what was written so far is removed.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(prog="python -m services.encoder.prepare")
    parser.add_argument("model", metavar="MODEL", help="a directory or a Hugging Face hub id")
    parser.add_argument("directory", metavar="DIRECTORY", type=Path, help="where the prepared model goes")
    parser.add_argument("--revision", help="commit of the hub id")
    parser.add_argument("--digest", help="sha256:…, the expected digest of MODEL")
    parser.add_argument("--overwrite", action="store_true", help="replace a prepared model in DIRECTORY")
    options = parser.parse_args()
    try:
        # Before torch is imported, which takes seconds: a wrong name fails at once.
        found = checkpoint.resolve(options.model, options.revision)
        found.start_hashing()
        from services.encoder.preparation import CannotPrepare, prepare, require_writable

        try:
            require_writable(options.directory, options.overwrite)
            if options.digest not in (None, found.digest):
                print(f"{options.model}: its digest is {found.digest}, not {options.digest}.", file=sys.stderr)
                sys.exit(1)
            prepare(found, options.directory, overwrite=options.overwrite)
        except CannotPrepare as error:
            print(error, file=sys.stderr)
            sys.exit(2)
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(found.digest)


if __name__ == "__main__":
    main()
