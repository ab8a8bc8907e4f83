"""Answers computed from records, and records that help a model to answer."""
