"""The speed of this machine with a scenario: seconds of a step for each agent, and for each FLOP."""

from __future__ import annotations

import statistics
import time
from contextlib import closing

from antiphon.engine.planning.rivals.placed import MeasuredSpeed
from antiphon.engine.planning.rivals.workload import Workload
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario

__all__ = ["measured_speed"]

_SHARE = 4
"""Of the batch the second measurement has one in so many, to tell work from overhead."""
_SECONDS = 0.4
"""Of the processor, for each measurement."""
_WARM = 3
_BLOCKS = 8


def measured_speed(scenario: Scenario) -> MeasuredSpeed:
    """Return the line through the step times of a scenario at its batch and at a quarter of it.

    Times are those of the processor, which do not depend on what else the machine does.

    Raises:
        DataError: The scenario's data are missing or broken.
        DivergenceError: It diverges within the measurement.
    """
    batch = scenario.training.batch
    smaller = scenario.with_training(batch=max(1, batch // _SHARE))
    times = [_step_seconds(one) for one in (scenario, smaller)]
    flop = [Workload.of(one).flop for one in (scenario, smaller)]
    slope = max(0.0, (times[0] - times[1]) / (flop[0] - flop[1])) if flop[0] > flop[1] else 0.0
    ticks = sum(1 / agent.clock.period for agent in scenario.agents.values())
    return MeasuredSpeed(agent=max(0.0, times[0] - slope * flop[0]) / ticks, flop=slope)


def _step_seconds(scenario: Scenario) -> float:
    """Return the processor's seconds of a step: the median over blocks of steps."""
    with closing(Simulation(scenario)) as simulation:
        start = time.process_time()
        for _ in range(_WARM):
            simulation.step()
        count = max(1, int(_SECONDS * _WARM / max(time.process_time() - start, 1e-6) / _BLOCKS))
        found = []
        for _ in range(_BLOCKS):
            start = time.process_time()
            for _ in range(count):
                simulation.step()
            found.append((time.process_time() - start) / count)
    return statistics.median(found)
