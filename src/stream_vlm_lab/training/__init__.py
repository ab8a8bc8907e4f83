"""Training: makes the model that ships with the package from simulated streams."""
