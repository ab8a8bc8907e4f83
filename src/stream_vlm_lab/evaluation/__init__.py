"""Evaluation: runs models on streams and scores what they say against the ground truth."""
