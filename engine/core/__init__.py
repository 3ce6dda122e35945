"""What a running scenario is made of: agents, channels, messages, ledgers, clocks, tapes, signals."""
