"""The ingress: downloads and samples a video, sends its chunks to encoders and decoders, assembles the answer."""
