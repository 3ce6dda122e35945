"""Adaptors: worlds of Gymnasium and PettingZoo as environments of a scenario."""
