"""Attacks on a running service with hostile media, and checks of its answer to each file."""
