"""Readers of data sets: embedded, downloaded with checksums, or in the user's folder."""
