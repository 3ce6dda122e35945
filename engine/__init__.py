"""What runs a scenario: clocks, schedule, ledger, builder, backends, simulation, forks and checkpoints."""
