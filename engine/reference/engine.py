"""The reference engine: what a step computes, one agent at a time. Every other engine is held to it.

Read this file first. The numbers of rules are those of docs/semantics.md. A step (rule 13):

1. the environment shows its signals;
2. messages arrive, and the agents that are due tick: `tick` (forward.py, mailbox.py);
3. the environment steps on the action; episodes that ended are cut: `cut` (rule 20);
4. groups whose window ends learn, then predictors do: `learn` (losses.py, policies.py, backward.py, ledger.py,
   predictors.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from antiphon.engine.heart.message import Action, LearningGroup, StepSignals, Tape
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
            for tick in group.tape.ticks[-1].parts:
                if self.state.agents[tick.agent].acts:
                    act(self.state, tick, step)
        note_outcome(self.state, signals)

    def cut(self, step: int, ended: EnvMask, terminated: EnvMask) -> None:
        """Cut the episodes that ended at `step`: what is held, in flight or kept is void there (rule 20)."""
        if not ended.any():
            return
        for name, ledger in self.state.ledgers.items():
            ledger.cut(step, ended, terminated)
            self.state.mailboxes[name].cut(ended)
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
        found = [window_update(state, group, tape, step) for group, tape in ordered]
        groups = [update for update in found if update is not None]
        state.sum_tied(groups)
        for group, tape in [*closed, *dropped]:
            self._close(group, tape, step)
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
        for _, tape in [*closed, *dropped]:
            release(tape)
        return StepReport(groups, gradients, inputs)

    def _closed_windows(self, step: int) -> tuple[Closed, Closed]:
        """Windows that are learned from at `step`, and those that nothing reaches any more (27b)."""
        closed, dropped = Closed(), Closed()
        for group in self.state.system.groups:
            window = group.windows.ending(step)
            if window is None:
                continue
            newest, group.tape = group.tape, Tape()
            if newest.window != window:  # no member ticked in it
                self._close(group, Tape(window), step)
                continue
            waiting, group.pending = [*group.pending, newest], []
            for tape in waiting:
                if group.late and waits(self.state, tape, window - tape.window, step):
                    release(tape)
                    group.pending.append(tape)
                elif contributes(self.state, group, tape):
                    if tape is not newest:
                        replay(self.state, tape)  # with the parameters of now
                    closed.append((group, tape))
                else:
                    dropped.append((group, tape))
        return closed, dropped

    def _close(self, group: LearningGroup, tape: Tape, step: int) -> None:
        """Close a window: its messages were learned from as sender, and what it used is complete as receiver."""
        for name, record in tape.sent:
            self.state.ledgers[name].release(record)
        for name in group.members:
            for channel in self.state.agents[name].channels:
                self.state.ledgers[channel.name].close(tape.window, step)

    @torch.enable_grad()
    def replay_open_windows(self) -> None:
        """Make the graphs of open windows again from their tapes (rule 15)."""
        for group in self.state.system.groups:
            replay(self.state, group.tape)
