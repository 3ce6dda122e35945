"""Networks, objectives and learners, independent of environment, graph and other agents."""
