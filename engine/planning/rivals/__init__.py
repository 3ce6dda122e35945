"""Ways to train one scenario on a cluster, by learning rule and by what waits for what: time to a target of each."""
