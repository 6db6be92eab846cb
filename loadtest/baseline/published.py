"""The published load test of the Ray Serve baseline.

A closed loop with autoscaling over an 8.27 s clip of one chunk on NVIDIA L4s; the second half of each run was kept. The
number of replicas is not published.
"""

from dataclasses import dataclass

# Encoding 16 frames took 650 to 750 ms; the other stages were small in comparison.
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


ROWS = (
    Row(2, 152, 303, 837, 838, 843, 844, 2.37),
    Row(4, 590, 1180, 851, 858, 984, 1025, 4.68),
    Row(8, 1103, 2206, 886, 885, 1065, 1120, 8.97),
    Row(16, 2240, 4480, 893, 900, 1074, 1128, 17.78),
    Row(32, 4141, 8282, 913, 928, 1095, 1151, 34.75),
    Row(64, 17283, 34565, 943, 967, 1128, 1188, 67.55),
)
