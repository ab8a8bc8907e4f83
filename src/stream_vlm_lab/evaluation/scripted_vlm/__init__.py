"""An instruct model without weights: it reads the labels of simulated pictures and answers."""
