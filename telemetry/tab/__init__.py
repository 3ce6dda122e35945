"""The Channels tab: agents and channels of a run as a graph, a matrix and a timeline, step by step.

A recorder writes the data into the run's event file, a TensorBoard plugin serves them, and `page` puts them into one
HTML file. TensorBoard imports this package when it starts: nothing here may import torch.
"""
