"""Adaptors: environments of Gymnasium and PettingZoo in a scenario."""
