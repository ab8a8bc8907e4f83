"""Captions: what a camera shows, in one or two sentences, written by a model in idle time."""
