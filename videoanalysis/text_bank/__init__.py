"""Text banks: texts with their embeddings, as a safetensors file; how they are built, checked and read."""
