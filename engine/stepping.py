"""One step of a running scenario, in the order that all have in which steps are taken: here, in parts, of several seeds, recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from antiphon.base.mask import ALL
from antiphon.engine.backends import Backend
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.step import take_step
from antiphon.engine.metrics.report_by_agent import AgentReport, MeanAccumulator


class Surroundings(Protocol):
    """What a step is taken in: an environment, or a record of one."""

    @property
    def step_signals(self) -> StepSignals:
        """The signals of the present step."""

    @property
    def episode_length(self) -> int | None:
        """Steps of the present episode; None: it is not known."""

    def advance(self, action: Action | None) -> EpisodeEnds:
        """Complete the present signals, make those of the next step, and return which episodes ended."""


def step_once(
    backend: Backend,
    world: Surroundings,
    means: MeanAccumulator,
    step: int,
    *,
    confirm: Callable[[], None] = lambda: None,
    watch: Watch = False,
    keep_messages: bool = True,
) -> tuple[EpisodeEnds, AgentReport]:
    """Take a step (semantics 13), begin the next episode, add the losses, and return which episodes ended and what was learned.

    Args:
        confirm: Called once it is learned from, before anything of it is counted: what it raises leaves episode and sums as they were.
        watch: Whether, or of which channels, predictions are kept; it changes no number.

    Raises:
        DivergenceError: A loss or gradient was not finite. This step has changed no parameter.
    """
    ends, stacks = take_step(
        backend, step, world.step_signals, world.advance, watch=watch, keep_messages=keep_messages
    )
    confirm()
    if ends.ended is ALL:
        backend.system.schedule.begin_episode(world.step_signals.step, world.episode_length)
    learned = AgentReport(stacks, backend.stacked)
    means.add(learned)
    return ends, learned
