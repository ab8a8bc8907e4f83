"""Used by both trainings: the training loop, losses, optimizers, saved states and loss logs."""
