"""Studies: many runs side by side, and the tables they end in."""
