"""Load tests of the video analysis service, and a capacity simulation of its autoscaling.

Imports run one way: cli → simulate → report → baseline → sweep → target → errors.
"""
