"""What runs a scenario. docs/glossary.md names the file of each concept.

heart/       one step, and what it works on: agent, channel, message, ledger, clock, window; read step.py first
features/    what is not the step itself, one file each, on its hooks
build/       from a scenario to a system, and what of it is stacked
state/       state dicts and checkpoints
inference/   forward passes without learning: evaluation, rollouts, the composed module
policies/    agents that act: actions of a step, and what a window of them came to
split/       a torch module cut into agents, and back
native/      which stacks the C++ kernel computes (nets/native)
capture/     periods of steps recorded as CUDA graphs
parts/       one scenario computed by several parts, to the same bits
ray/         these parts as processes of several machines, and what they send each other
virtual/     a scenario in virtual time, on a cluster that is only described
runs/        the run loop, run directories, several seeds
metrics/     what recorders are handed
probes/      whether a channel works: forks that are run, read and thrown away
studies/     many runs and their tables
planning/    what a scenario costs before it runs
"""
