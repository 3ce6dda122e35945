"""Layers, losses, optimisers and counter-based random numbers, shared by agents and channels."""
