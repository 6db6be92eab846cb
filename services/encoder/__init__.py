"""The encoder: turns the sampled frames of a chunk, and texts, into SigLIP embeddings."""
