"""Simulated cameras with exact labels, for training, the demo, examinations and tests."""
