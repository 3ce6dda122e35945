"""The Channels tab: agents and channels of a run as a graph, a matrix and a timeline, step by step.

A recorder writes its data into the run's event file, a TensorBoard plugin serves them, `page` puts them into one
HTML file. TensorBoard imports this package at its start: nothing here may import torch.
"""
