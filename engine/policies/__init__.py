"""Policies at run time: the actions of a step, and what a window of them came to."""
