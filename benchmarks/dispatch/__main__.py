"""Placement of chunks on encoders.

python -m benchmarks.dispatch simulate               policies, beside an ideal central queue
python -m benchmarks.dispatch scale [REPLICAS …]     the real code over real encoder processes

"""

import asyncio
import sys

from benchmarks.dispatch import scale, tables


def main() -> None:
    match sys.argv[1:]:
        case ["simulate"]:
            for table in (tables.claims, tables.changes, tables.shapes):
                print(f"\n{table.__doc__}\n")
                table()
        case ["scale", *counts]:
            asyncio.run(scale.table([int(count) for count in counts] or scale.REPLICAS))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
