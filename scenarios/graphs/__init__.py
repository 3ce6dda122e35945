"""Generated graphs of agents, and scenarios as graphs."""
