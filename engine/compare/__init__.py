"""Where two runs differ: their records, then a replay in lockstep."""
