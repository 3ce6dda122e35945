"""What runs a scenario.

What a step is:      clock, schedule, units, moment, world, record, ledger, tape, contexts, ticking, judging, returns,
                     teaching, reference, divergence; parts, system
One simulation:      build (shapes, wiring, rates, weights), simulation (looking); state, checkpoint, saving; compose
                     (rounds, unrolling), evaluation, rehearsal, rollout; recording, handles; split, advice, timeline
Runs:                trainer (the run loop: observers, run_writer, stopping); run, seeds, multi_seed; request, directory,
                     result
Knowing:             probes/, forks that are run, read and thrown away
Many runs:           studies/

`reference`, `ticking` and `teaching` are the specification that other backends are held to: read them first.
"""
