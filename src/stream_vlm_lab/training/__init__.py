"""Training: makes the shipped model from simulated streams, and fine-tunes other checkpoints."""
