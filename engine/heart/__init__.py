"""The step of a system, from what agents read at a tick to what they learn from it.

Begin with step.py, the step in its own words, and its hooks. Then: rows.py and clock.py (what holds where, and when),
message.py (messages, reads, ticks, windows), ledger.py (a channel's messages, from sending to the return of their gradient),
agent.py, channel.py and system.py (what a system is made of), forward.py (a tick), learn.py (a window that ends),
predictors.py and updates.py. What is not the step itself is in engine/features, put on the hooks by engine/installed.py.
"""
