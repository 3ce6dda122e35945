"""The parts of a scenario as processes of a Ray cluster."""
