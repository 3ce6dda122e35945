"""Runs: the loop, the run directory, several seeds in one program."""
