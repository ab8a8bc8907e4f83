"""What every training shares: the loop, losses, optimizers, progress."""
