"""Checkpoints: their files read and checked, their weights placed on devices."""
