"""A scenario in parts: in one process, on Ray, and in virtual time."""
