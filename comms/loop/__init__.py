"""Channels in a training loop of one's own.

Read in this order: loop_channel.py (`Channel`, and `learn` for one network), open_messages.py (which message a gradient belongs to),
gradients.py (how gradients add up on parameters), channel_arguments.py (arguments).
"""
