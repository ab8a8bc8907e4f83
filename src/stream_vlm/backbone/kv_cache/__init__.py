"""The KV cache with fixed slots, and the forward pass that uses it."""
