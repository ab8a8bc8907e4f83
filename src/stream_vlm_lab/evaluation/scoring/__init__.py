"""Scores of what was said against what happened."""
