"""What the original system published of its load test, to be laid beside ours.

A closed loop with autoscaling on, of an 8.27 s clip of one chunk, on NVIDIA L4s; the second half of each run was kept.
How many replicas there were it does not say.
"""

from dataclasses import dataclass

# One encode of 16 frames took 650 to 750 ms, and nearly everything else was noise next to it.
CHUNK_MS = 700.0
FAILURES = 0


@dataclass(frozen=True, slots=True)
class Row:
    concurrency: int
    kept: int
    requests: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rate: float
    rate_per_concurrency: float


PUBLISHED = (
    Row(2, 152, 303, 837, 838, 843, 844, 2.37, 1.19),
    Row(4, 590, 1180, 851, 858, 984, 1025, 4.68, 1.17),
    Row(8, 1103, 2206, 886, 885, 1065, 1120, 8.97, 1.12),
    Row(16, 2240, 4480, 893, 900, 1074, 1128, 17.78, 1.11),
    Row(32, 4141, 8282, 913, 928, 1095, 1151, 34.75, 1.09),
    Row(64, 17283, 34565, 943, 967, 1128, 1188, 67.55, 1.06),
)
BY_CONCURRENCY = {row.concurrency: row for row in PUBLISHED}


def efficiency(rate: float, concurrency: float, service_seconds: float) -> float:
    """The rate over that of so many callers whose requests take nothing but the encoder's time."""
    return rate * service_seconds / concurrency
