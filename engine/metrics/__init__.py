"""What recorders are handed: metrics, samples, timelines."""
