"""Draws portable things: standard, varied, from families, and held out for examinations."""
