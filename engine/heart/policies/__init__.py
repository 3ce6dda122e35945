"""Policies in a step: what acting agents do, what followed, and what they learn from it, in one pass over a window or in several."""
