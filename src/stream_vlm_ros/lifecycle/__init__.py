"""The lifecycle: parameters, publishers, diagnostics, and the objects that each state needs."""
