"""What builds a scenario, runs it and saves it.

heart/       one step, and what it works on: agent, channel and its ends, clock, window; its docstring says in which order to read
             heart/policies: agents that act, and what they learn from the rewards that follow
build/       from a scenario to a system, and what of it is stacked
state/       state dicts and checkpoints
inference/   forward passes without learning: evaluation, rollouts, the composed module
metrics/     what is logged
native/      which stacks the C++ kernel computes (nets/native)
capture/     periods of steps recorded as CUDA graphs
live_system  a system in its environment, with its settings and its clock: what runs
"""
