"""Channels in a training loop of one's own.

Read in this order: loop_channel.py (`Channel`), learn.py (`learn`, for one network), transit.py (what is under way on a channel), open_messages.py
(which message a gradient belongs to), finite.py (what is left out), gradients.py (how gradients add up on parameters), channel_arguments.py (arguments).
"""
