"""Telemetry of a run in parts: the time that each part computed and waited, and the bytes it sent."""
