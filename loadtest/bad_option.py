"""What a user may have mistyped."""


class BadOption(ValueError):
    """The message names the option and says what it must be."""
