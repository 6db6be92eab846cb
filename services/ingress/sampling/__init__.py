"""A media file comes in; the frames of its chunks in shared memory and the places of cuts come out.

Nothing is imported here: the worker process, which every video has, would load all of it.
"""
