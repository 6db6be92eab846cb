"""Placement of chunks on encoders.

python -m benchmarks.dispatch simulate               compared with alternatives and an ideal central queue
python -m benchmarks.dispatch scale [REPLICAS …]     the real code over real encoder processes
python -m benchmarks.dispatch fairness [SECONDS]     what each of several ingresses gets of saturated encoders
"""

import asyncio
import sys

from benchmarks.dispatch import fairness, scale, tables


def main() -> None:
    match sys.argv[1:]:
        case ["simulate"]:
            for table in (tables.comparison, tables.shapes, tables.shares):
                print(f"\n{table.__doc__}\n")
                table()
        case ["scale", *counts]:
            asyncio.run(scale.table([int(count) for count in counts] or scale.REPLICAS))
        case ["fairness", *seconds]:
            asyncio.run(fairness.table(float(seconds[0]) if seconds else 30.0))
        case ["ingress", addresses, outstanding]:
            asyncio.run(fairness.ingress(addresses, int(outstanding)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
