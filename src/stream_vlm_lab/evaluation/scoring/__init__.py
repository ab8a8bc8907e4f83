"""Scores what a model said against what really happened."""
