"""A run comes in, its comparison with the published load test of the Ray Serve baseline goes out."""
