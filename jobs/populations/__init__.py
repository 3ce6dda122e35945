"""Populations: members of one scenario that differ in hyperparameters, trained together, and the selection among them."""
