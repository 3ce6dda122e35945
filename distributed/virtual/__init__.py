"""Virtual time: a scenario on the machines and links of a cluster that is only described."""
