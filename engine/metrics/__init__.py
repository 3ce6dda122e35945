"""What recorders are handed: figures, samples, timelines."""
