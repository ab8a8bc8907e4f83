"""Examinations on hand-labelled clips of real cameras."""
