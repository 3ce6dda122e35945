"""Forward passes without learning: rollouts, evaluation, the composed module."""
