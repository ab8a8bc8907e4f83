"""Writing: every step in one transaction, by a thread of its own or at once."""
