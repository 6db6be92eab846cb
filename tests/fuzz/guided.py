"""One target under atheris, which changes what leads into new code: `python -m tests.fuzz.guided TARGET OPTION…`."""

import sys

import atheris

with atheris.instrument_imports(include=["services", "videoanalysis"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].read)
    atheris.Fuzz()
