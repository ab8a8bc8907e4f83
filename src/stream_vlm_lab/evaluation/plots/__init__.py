"""Pictures of a run: timeline, annotated clip, charts."""
