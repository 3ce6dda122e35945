"""What runs a scenario.

What a step is:      clock, schedule, units, moment, world, ledger, tape, ticking, teaching, reference; parts, system
One simulation:      build (shapes, weights), simulation; state, checkpoint, saving; compose, evaluation; probe, recording,
                     handles; split, advice, progress
Runs and studies:    run (request, directory, result, stopping, tally, figures); study (pool, worker, table, recovered)

`reference`, `ticking` and `teaching` are the specification that other backends are held to: read them first.
"""
