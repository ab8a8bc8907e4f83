"""Streams of pictures through the model: one for each camera, batched in one forward pass."""
