"""A run: `Simulation`, its directory, its loop and what it is asked for again with."""
