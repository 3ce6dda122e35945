"""Recorded periods of the step loop, replayed in place of its steps."""
