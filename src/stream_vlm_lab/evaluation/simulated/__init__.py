"""Examinations on simulated rooms."""
