"""The model's context: typed segments, their positions, the turn formats, and context policies."""
