"""Load on a running service or on a local stack, its report, and a simulation of the autoscaling."""
