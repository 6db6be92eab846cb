"""Placement of chunks on encoders compared with an ideal central queue."""
