"""Summaries of finished chunks, and summaries of summaries."""
