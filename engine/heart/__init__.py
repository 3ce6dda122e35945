"""The step of a system, from what agents read at a tick to what they learn from it.

Read in this order: rows.py and clock.py (what holds where, and when), message.py (messages, ticks, windows), ledger.py and
mailbox.py (a channel's two ends), agent.py, channel.py and system.py (what a system is made of), forward.py (a tick),
learn.py (a window that ends), predictors.py, updates.py, step.py (the step, and its hooks). What is not the step itself is
in engine/features.
"""
