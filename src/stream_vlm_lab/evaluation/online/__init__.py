"""Runs a model over a stream, one frame at a time, and records what it says."""
