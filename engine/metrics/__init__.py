"""What recorders are handed: figures, digests, samples, timelines."""
