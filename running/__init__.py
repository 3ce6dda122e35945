"""A run: `Simulation`, its loop, its directory and what it is asked for again with. Who calls whom:

Simulation              what a user has: a facade of `Run` and of the `LiveSystem` that it records
Job                     (jobs/) a `Request` and a folder: the command line, seeds, studies and populations
  start.begin, resume   checks, builds or restores a `LiveSystem` and its executor, and makes its directory
    Run                 takes a step by hand, or as the loop asks; hands its metrics to recorders
      Callback          follows every step, and says when it reads the state next; until then an executor goes ahead
        DirectoryWriter checkpoints, run.json and result.json, in a `RunDirectory`
        RunProgress, UserCallbacks, PopulationRun
loop.train              steps one run, or several together, to their end, a signal or an error
"""
