"""The step of a system, from what agents read at a tick to what they learn from it.

In reading order, each file after those that it imports:

    layout              which seed, member and environment a row is of
    clock               when agents tick, and which ticks are a window
    notes               what features keep with a message, a tick or an agent
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

The life of one message, in real numbers (a test computes this table):

Agent a ticks at every step and learns from windows of 4 ticks. Agent b ticks at every 4th step and learns from windows of 2
ticks: its window 1 has the ticks of steps 8 and 12, and ends at step 12. The channel a->b is decoupled and delays messages by 2
steps, on either way. There are B = 4 environments, and at step 7 the episode ends in environments 0 and 1. Of the message that
a sends at step 6, the columns list the environments in which it is void, withheld and counted, and has a returned gradient:

    step  void  withheld  counted  gradient  calls
    6     -     -         -        -         Ledger.send: the first tick that reads it is 8 = 6 + 2, in window 1 of b
    7     0 1   0 1       -        -         Ledger.end_episodes; then a's window ends: BackwardPass.inject, in 2 and 3 alone
    8     0 1   0 1       -        -         ForwardPass.as_read: b reads zeros in 0 and 1, and a Leaf that counts in 2 and 3
    12    0 1   0 1       2 3      2 3       b's window ends: Returned.add, Ledger.close; the gradient is at a at 14 = 12 + 2
    14    0 1   0 1       2 3      2 3       Ledger.take: the predictor of a->b learns from 2 and 3, and a does not learn again
    15    gone  gone      gone     gone      Ledger.send of a newer message drops it

The messages of steps 3, 4 and 5 are unread: when b ticks at step 8, that of step 6 has replaced them. Had the episode ended at
step 9, after the tick that reads the message, it would be void in 0 and 1 from then on, but withheld nowhere, and counted in
all four environments.
"""
