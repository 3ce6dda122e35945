"""Scenarios cut into parts, each computed by a process of its own."""
