"""Conversions, health counters, logging and goal results, which the other folders share."""
