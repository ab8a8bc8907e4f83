"""Streams of pictures through the model: one per camera, all of a tick in one forward pass."""
