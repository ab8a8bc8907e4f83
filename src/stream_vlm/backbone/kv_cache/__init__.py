"""The KV cache of fixed slots, and the forward pass over it."""
