"""The state of a simulation as plain data, and checkpoints of it on disk."""
