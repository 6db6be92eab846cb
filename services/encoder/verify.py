"""`python -m services.encoder.verify MODEL`: checks that the engine computes what transformers computes.

Prints a line per check. Exits with 0 if none failed, 1 if one did, 2 if the checkpoint cannot be loaded.
"""

import argparse
import os
import signal
import sys

from services.encoder import checkpoint
from services.encoder.engine import StartupError


def main() -> None:
    # Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser(prog="python -m services.encoder.verify")
    parser.add_argument("model", metavar="MODEL", help="a directory or a Hugging Face hub id")
    parser.add_argument("--revision", help="commit of the hub id")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    options = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        passed = verify(options.model, options.revision, options.device, options.precision)
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if passed else 1)


def verify(model: str, revision: str | None, device: str, precision: str) -> bool:
    """Print the findings; whether all checks passed. Raises StartupError."""
    # Before torch is imported, which takes seconds: a wrong name fails at once.
    found = checkpoint.resolve(model, revision)
    from transformers.utils import logging

    from services.encoder import siglip
    from services.encoder.verification import Outcome, Verification

    # Disabled only now, so that the download shows its progress.
    logging.disable_progress_bar()
    engine = siglip.load(found, device=device, precision=precision, torch_threads=0)
    served = engine.model
    print(f"model      {served.model_id}")
    print(f"revision   {served.revision or 'none, a directory'}")
    print(f"digest     {served.digest}")
    print(f"pictures   {served.image_size} px, embedded in {served.embedding_dim} dimensions")
    print(f"computes   in {served.precision} on {served.device}\n", flush=True)
    failed = []
    for finding in Verification(found, engine).findings():
        print(finding, flush=True)
        if finding.outcome is Outcome.FAIL:
            failed.append(finding.check)
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nno check failed")
    return not failed


if __name__ == "__main__":
    main()
