"""Readers of data sets: embedded, downloaded with checksums, or in a folder of the user."""
