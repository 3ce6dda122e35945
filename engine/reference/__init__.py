"""The specification: what a step computes, one agent at a time, by plain autograd and plain optimisers of torch.

Read engine.py first, then forward, ledger, policies, backward, predictors, state.
"""
