"""Telemetry of a run that is computed in parts: what each part computed, waited for and sent."""
