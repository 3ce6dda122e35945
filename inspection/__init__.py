"""Knowing whether a channel works: forks that are run, read and thrown away."""
