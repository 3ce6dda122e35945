"""Splitting a torch model into agents, and joining them again."""
