"""Examinations on labelled clips."""
