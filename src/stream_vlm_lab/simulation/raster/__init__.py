"""Draws shapes as pixels."""
