"""One scenario computed by several parts, each of which has a share of its agents."""
