"""What a robot does not need: the simulated world, training, evaluation and the demo."""
