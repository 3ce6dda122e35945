"""Environments with actions and rewards, in torch, many copies at once."""
