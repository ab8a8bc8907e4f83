"""Summaries of what is over, and summaries of summaries."""
