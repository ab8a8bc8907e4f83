"""Trains the model that ships with the package on simulated streams."""
