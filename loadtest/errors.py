"""Errors that a user can correct."""


class InvalidOption(ValueError):
    """An option has a value that cannot be used; the message names the option and valid values."""


class InvalidRun(Exception):
    """A directory that holds no complete run; the message names the file."""
