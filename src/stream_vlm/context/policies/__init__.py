"""Policies: each decides what stays in the context and what leaves it."""
