"""The decoder: turns embeddings into tags, a caption and scene changes, without state between calls."""
