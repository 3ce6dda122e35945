"""Measured time of a step on this machine, by backend."""

from __future__ import annotations

import math
import statistics
import timeit
from collections.abc import Sequence
from contextlib import ExitStack

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario

__all__ = ["measure_step_time"]

_SECONDS = 0.4
"""Wall clock for each backend, once it is warm."""
_MOST_STEPS = 64
"""Of a block: windows and clocks that together take longer to come round are cut."""
_LONGEST = 4.0
"""Times `seconds` that a block may take: of slow steps it has fewer."""
_BLOCKS = 200
"""At most."""


def measure_step_time(
    scenario: Scenario, backends: Sequence[str], *, seconds: float = _SECONDS
) -> dict[str, float]:
    """Return the milliseconds of a step by backend: the median over blocks in which all windows come round.

    Blocks of the backends alternate, for about `seconds` each, so that what else the machine does slows all of them alike.

    Raises:
        DataError: The scenario's data are missing or broken.
        DivergenceError: It diverges within the run.
    """
    with ExitStack() as opened:
        simulations = [opened.enter_context(Simulation(scenario, backend=backend)) for backend in backends]
        slowest = max(timeit.repeat(simulation.step, number=1, repeat=2)[1] for simulation in simulations)
        steps = min(_cycle(simulations[0]), max(1, int(_LONGEST * seconds / slowest)))
        times: list[list[float]] = [[] for _ in backends]
        while waiting := [i for i, own in enumerate(times) if sum(own) < seconds and len(own) < _BLOCKS]:
            for i in waiting:
                times[i].append(timeit.timeit(simulations[i].step, number=steps))
    return {name: 1e3 * statistics.median(own) / steps for name, own in zip(backends, times, strict=True)}


def _cycle(simulation: Simulation) -> int:
    """Return the steps after which all windows and clocks have come round, at most `_MOST_STEPS`."""
    system = simulation._system
    lengths = {group.windows.steps() for group in system.groups}
    periods = {agent.clock.period for agent in system.agents.values()}
    return min(math.lcm(system.hold, *lengths, *periods), _MOST_STEPS)
