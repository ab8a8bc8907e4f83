"""From shapes to pixels."""
