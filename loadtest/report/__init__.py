"""A run comes in, an HTML page with charts goes out."""
