"""Pictures of results: timeline, annotated clip, charts."""
