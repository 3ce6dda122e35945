"""One step: forward, losses, backward, predictor training, update."""
