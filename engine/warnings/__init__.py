"""Warnings of a scenario beside its environment, and of a run: what runs, but probably not as it is meant."""
