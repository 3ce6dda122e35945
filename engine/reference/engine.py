"""The reference engine: what a step computes, one agent at a time. Every other engine is held to it.

Read this file first. The numbers of rules are those of docs/semantics.md. A step (rule 13):

1. the environment shows its signals;
2. messages arrive, and the agents that are due tick: `tick` (forward.py, ledger.py);
3. the environment steps on the action; episodes that ended are cut: `cut` (rule 20);
4. groups whose window ends learn, then predictors do: `learn` (losses.py, policies.py, backward.py, ledger.py,
   predictors.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from antiphon.engine.heart.message import Action, LearningGroup, StepSignals, Window
from antiphon.engine.heart.updates import StepReport
from antiphon.engine.reference.backward import (
    Closed,
    contributes,
    depth,
    lambda_returns,
    waits,
    window_update,
)
from antiphon.engine.reference.forward import release, replay, tick_agents
from antiphon.engine.reference.ledger import EnvMask, mask_fill_zero
from antiphon.engine.reference.policies import (
    act,
    environment_action,
    forget_actions,
    further_passes,
    note_outcome,
)
from antiphon.engine.reference.predictors import gradient_updates, input_updates
from antiphon.engine.reference.state import State

if TYPE_CHECKING:
    from antiphon.engine.heart.system import System


class ReferenceEngine:
    """Runs a built scenario, step by step: `system` declares clocks, links, and networks with their first parameters."""

    def __init__(self, system: System) -> None:
        self.state = State(system)

    @property
    def action(self) -> Action | None:
        """What is done in the environment after the newest step; None: nobody acts."""
        return environment_action(self.state)

    def tick(self, step: int, signals: StepSignals) -> None:
        """Let the agents due at `step` tick, senders of zero-delay channels before their receivers (rule 13).

        `signals`: the environment's; those known only after the step are added to them before `learn`.
        """
        forget_actions(self.state)
        for agents in self.state.system.schedule.calls(step):
            group = self.state.group_of[agents[0]]
            tick_agents(self.state, agents, group, signals)
            for tick in group.window.calls[-1]:
                if self.state.agents[tick.agent].acts:
                    act(self.state, tick)
        note_outcome(self.state, signals)

    def cut(self, step: int, ended: EnvMask, terminated: EnvMask) -> None:
        """Cut the episodes that ended at `step`: what is held, in flight or kept is void there (rule 20)."""
        if not ended.any():
            return
        for ledger in self.state.ledgers.values():
            ledger.cut(step, ended, terminated)
        for agent in self.state.agents.values():
            if agent.trail is not None:
                agent.trail = {stamp: mask_fill_zero(~ended, value) for stamp, value in agent.trail.items()}

    def learn(self, step: int, *, watch: bool = False) -> StepReport:
        """Let every group whose window ends at `step` learn, then the predictors that something reached (rule 7).

        DivergenceError: no parameter has moved (rule 32). `watch`: whether predictions are part of the report.
        """
        state = self.state
        closed, dropped = self._closed_windows(step)
        # First everything is computed, with the parameters of before the step ...
        ordered = sorted(closed, key=lambda one: depth(state, one[0]))
        found = [window_update(state, group, window, step) for group, window in ordered]
        groups = [update for update in found if update is not None]
        state.sum_tied(groups)
        for group, window in [*closed, *dropped]:
            self._close(group, window, step)
        returns = lambda_returns(state, closed, step)
        gradients = gradient_updates(state, closed, returns, step, watch=watch)
        inputs = input_updates(state, step)
        # ... then everything moves: the order cannot matter.
        for update in groups:
            for name, own in update.gradients.items():
                if any(g is not None for g in own):
                    state.learners[name].step(own, step)
        for optimizers, updates in ((state.predictors, gradients), (state.inputs, inputs)):
            for name, learned in updates.items():
                optimizers[name].step(learned.gradients, step)
        for update in groups:
            further_passes(state, update, step)
        for _, window in [*closed, *dropped]:
            release(window)
        return StepReport(groups, gradients, inputs)

    def _closed_windows(self, step: int) -> tuple[Closed, Closed]:
        """Windows that are learned from at `step`, and those that nothing reaches any more (27b)."""
        closed, dropped = Closed(), Closed()
        for group in self.state.system.groups:
            number = group.windows.ending(step)
            if number is None:
                continue
            newest, group.window = group.window, Window()
            if newest.number != number:  # no member ticked in it
                self._close(group, Window(number), step)
                continue
            waiting, group.pending = [*group.pending, newest], []
            for window in waiting:
                if group.late and waits(self.state, window, number - window.number, step):
                    release(window)
                    group.pending.append(window)
                elif contributes(self.state, group, window):
                    if window is not newest:
                        replay(self.state, window)  # with the parameters of now
                    closed.append((group, window))
                else:
                    dropped.append((group, window))
        return closed, dropped

    def _close(self, group: LearningGroup, window: Window, step: int) -> None:
        """Close a window: its messages were learned from as sender, and what it used is complete as receiver."""
        for name, message in window.sent:
            self.state.ledgers[name].release(message)
        for name in group.members:
            for channel in self.state.agents[name].channels:
                self.state.ledgers[channel.name].close(window.number, step)

    @torch.enable_grad()
    def replay_open_windows(self) -> None:
        """Make the graphs of open windows again from their ticks (rule 15)."""
        for group in self.state.system.groups:
            replay(self.state, group.window)
