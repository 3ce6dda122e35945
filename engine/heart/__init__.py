"""The step of a system, from what agents read at a tick to what they learn from it.

In reading order: rows.py, layout.py and clock.py (what holds where, and when), message.py and updates.py (messages, reads, ticks,
windows; what is learned from them), ledger.py (a channel's messages, from sending to the return of their gradient), agent.py,
channel.py and system.py (what a system is made of), forward.py (a tick), predictors.py and learn.py (a window that ends),
divergence.py (what is checked before anything moves), order.py (which window first), step.py (all of it in order), feature.py
(the points at which features are called). What is not the step itself is in engine/features and engine/policies, and
engine/installed.py installs it.
"""
