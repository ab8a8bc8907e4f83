"""A day in the life of the node: everything that a user can do, at once, for 24 simulated hours."""
