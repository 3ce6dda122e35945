"""Worlds in which agents act and are rewarded, in torch, many copies at once."""
