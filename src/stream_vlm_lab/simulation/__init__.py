"""Simulated cameras with exact labels: what the shipped model learns from, what the demo watches,
what tests measure against.
"""
