"""The three services and an S3 server as child processes on one machine."""
