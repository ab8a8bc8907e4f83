"""Recorded StreamingVLM runs, replayed and compared."""
