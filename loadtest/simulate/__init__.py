"""The chart's values, service times and a load come in, replicas, latencies and cost go out: no cluster needed."""
