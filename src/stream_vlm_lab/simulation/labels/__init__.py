"""Exact labels of a stream: states, events, questions, tasks, and their files."""
