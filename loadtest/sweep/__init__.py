"""Levels of load come in, a run goes out: requests, samples, steady state, latencies and verdicts, as files."""
