"""A model is shown each frame once, and what it says is kept."""
