"""Limits of the contract that several services enforce."""

MAX_FRAMES_PER_CHUNK = 64
