"""What a scenario will cost, before it runs: cohorts, order, memory, time."""
