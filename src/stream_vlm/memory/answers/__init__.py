"""Answers that are computed from records, and the records that help a model to answer."""
