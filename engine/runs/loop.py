"""The loop of a simulation that runs by itself: until when, interruptions, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.engine.runs.progress import progress_bar
from antiphon.engine.runs.stopping import stop_signals
from antiphon.errors import ScenarioError

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["keep_stepping"]


def keep_stepping(
    simulation: Simulation,
    steps: int | None,
    episodes: int | None,
    seconds: float | None,
    on_step: Callable[[Simulation], None] | None,
) -> bool:
    """Step until one of the limits is met (see `Simulation.run`); return whether a signal came before.

    Raises:
        DivergenceError: A loss or gradient was not finite.
        ScenarioError: Episodes are asked for, and the environment's never end.
    """
    env = simulation.world.env
    if episodes is not None and steps is None and seconds is None and env.endless:
        raise ScenarioError(
            "run: the environment's episodes never end; give steps=…, or use `episode: example`"
        )
    if steps is None and episodes is None and seconds is None:
        steps = max(0, simulation.scenario.training.steps - simulation.now)
    if steps is not None:
        simulation.until = simulation.now + steps
    done = count = 0
    start = time.monotonic()
    with stop_signals() as stopped, progress_bar(steps) as advance:
        while (
            not stopped
            and (steps is None or done < steps)
            and (episodes is None or count < episodes)
            and (seconds is None or time.monotonic() - start < seconds)
        ):
            info = simulation.step()
            done += 1
            ended = info["ended"]
            count += bool(ended if isinstance(ended, bool) else ended[0])
            advance()
            if on_step is not None:
                on_step(simulation)
        simulation.settle()  # a limit may have been met between two syncs
        return bool(stopped)
