"""The specification: what a step computes, one agent at a time, by plain autograd and plain optimisers of torch.

Read engine.py first, then forward, mailbox, ledger, losses, backward, predictors, state; records declares what is kept.
"""
