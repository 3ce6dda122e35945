"""What runs a scenario.

core/        agent, channel, message, ledger, clock, schedule, tape, signals: what a step works on
build/       from a scenario to a system, and what of it is stacked
step/        one step: engine (read it first), forward, losses, backward, predictors, report
reference/   the specification: one agent at a time, plain autograd; the engine is held to it
state/       state dicts and checkpoints
inference/   forward passes without learning: evaluation, rollouts, the composed module
parts/       one scenario computed by several parts, to the same bits
runs/        the run loop, run directories, several seeds
metrics/     what recorders are handed
probes/      whether a channel works: forks that are run, read and thrown away
studies/     many runs and their tables
planning/    what a scenario costs before it runs
compare/     where two runs differ
"""
