"""Tags, captions and scene changes for any video in S3."""
