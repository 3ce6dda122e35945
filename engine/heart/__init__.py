"""The step of a system, from what agents read at a tick to what they learn from it.

In reading order, each file after those that it imports:

    layout              which seed, member and environment a row is of
    clock               when agents tick, and which ticks are a window
    message             messages, what a tick reads of them, ticks, windows, learning groups
    held_messages       what the receiver of a channel holds, where links lose or predictors are conditioned on it
    newest_returned     the newest gradient that has come back, where predictors are conditioned on it
    ledger              a channel's messages, from sending to the return of their gradient
    sender_rows         what the pieces of a cut stack of channels read of their sender's port
    channel             stacks of channels
    participation       which agents learn from a window
    rewards             what a policy learns from, in place of a target
    agent               stacks of agents
    policy_window       what a policy learns from a window
    updates             what is learned from a window, by agents and by predictors
    divergence          what is checked before a parameter moves
    lives               agents of the environment that die, or come late
    system              all agents, channels and groups
    stacked             a system of stacks, and the single agents that they are made of
    feature             the points of the step at which features are called
    forward             a tick
    predictors          training of synthetic gradients and inputs
    learn               a window that ends
    order               which window first
    step                all of it in order

What only some scenarios need is in engine/features and engine/policies; engine/installed.py installs it. Of these, only the
classes that the files above name are here (rewards, policy_window).
"""
