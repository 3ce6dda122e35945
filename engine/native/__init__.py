"""Stacks that a compiled kernel computes, and which of them it does."""
