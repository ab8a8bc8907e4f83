"""Write steps to the memory, each in one transaction: on a separate thread, or at once."""
