"""Upkeep of the file: idle work, retention, forgetting, checks, copies, export and import."""
