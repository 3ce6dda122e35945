"""From a scenario (immutable data) to a system, in named steps."""
