"""Layers, losses, optimisers and counter-based random numbers: what agents and channels both stand on."""
