"""The lab: the simulated world, training, evaluation and the demo. A robot does not need it."""
