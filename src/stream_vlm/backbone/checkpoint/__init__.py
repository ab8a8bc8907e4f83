"""Loads checkpoints: checks their files and places their weights on devices."""
