"""Maintain the file: idle work, retention, deletion, checks, copies, export and import."""
