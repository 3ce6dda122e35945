"""The parts of a scenario as processes of a Ray cluster: what they send each other is in `worker`, the actors in `ray_parts`."""
