"""Attacks on a running service: hostile media, and a check of what the service makes of each file."""
