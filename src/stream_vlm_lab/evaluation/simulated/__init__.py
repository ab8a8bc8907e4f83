"""Examinations in simulated rooms."""
