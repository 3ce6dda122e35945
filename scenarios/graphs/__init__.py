"""Generated graphs of agents, and what they take."""
