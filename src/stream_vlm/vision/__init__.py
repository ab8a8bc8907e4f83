"""The vision tower behind one function, from pixels to embeddings."""
