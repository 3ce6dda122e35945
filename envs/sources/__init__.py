"""Environments of the user's own data: tensors, data sets, files, loaders and sequences."""
