"""A video file goes in, the frames of its chunks in shared memory and the places of cuts come out."""
