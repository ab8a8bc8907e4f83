"""Replays recorded StreamingVLM runs and compares every recorded value."""
