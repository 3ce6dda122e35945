"""The reference engine: what a step computes, one agent at a time. Every other engine is held to it.

Read this file first. The numbers of rules are those of docs/semantics.md. A step (rule 13):

1. the environment shows its signals;
2. messages arrive, and the agents that are due tick: `tick` (forward.py, wires.py);
3. the environment steps on the action;
4. episodes end: `end_episodes` (rule 20); groups whose window ends learn, then predictors do: `learn` (backward.py, policies.py, wires.py,
   predictors.py).
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from antiphon.agents.distributions import UNBOUNDED
from antiphon.agents.network import OBJECTIVE
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.updates import GroupWindows, StepReport
from antiphon.engine.heart.window import LearningGroup, Window
from antiphon.nets.mask import NONE
from tests.reference import wires
from tests.reference.backward import fate_of, window_update
from tests.reference.final_values import note_final_values
from tests.reference.forward import replay, tick_agents
from tests.reference.policies import act, copy_target, further_passes, update_returns
from tests.reference.predictors import gradient_updates, input_updates
from tests.reference.state import State
from tests.reference.wires import as_mask, mask_fill_zero


def _in_box(action: Tensor, space: spaces.Box) -> Tensor:
    """Return a policy's samples in the units of a Box, number by number: -1 and 1 are its bounds, if it has both (rule 37)."""
    bounds = zip(space.low.flatten().tolist(), space.high.flatten().tolist(), strict=True)
    numbers = [
        sample if max(abs(low), abs(high)) >= UNBOUNDED else (low + high) / 2 + (high - low) / 2 * sample
        for sample, (low, high) in zip(action.flatten(1).unbind(1), bounds, strict=True)
    ]
    return torch.stack(numbers, 1).reshape(-1, *space.shape)


class ReferenceEngine(State):
    """Runs a built scenario, step by step: `system` declares clocks, links, and networks with their first parameters."""

    @property
    def action(self) -> Action | None:
        """What the actors do after the newest step, as the environment's space counts it; None: nothing (rule 37)."""
        space, parts = self.system.description.action_space, dict[str, Tensor]()
        for agent in self.agents.values():
            action, policy, alone = agent.kept.newest_action, agent.policy, agent.acts is True
            if not agent.acts or agent.goal is None or (action is None and policy is None and alone):
                continue
            if action is None:  # before its first tick
                size = agent.learner.network.heads[OBJECTIVE].size
                action = torch.zeros(self.batch, *size, dtype=self.system.dtype, device=self.system.device)
                if policy is not None and policy.distribution is not None:
                    action = policy.distribution.mode(action)
            own: Any = space if alone or space is None else space[agent.acts]  # type: ignore[index]
            if policy is not None and isinstance(own, spaces.Box):
                action = _in_box(action, own)
            elif policy is not None and not action.is_floating_point():
                action = action.reshape(-1, *own.shape) + torch.as_tensor(getattr(own, "start", 0)).to(action)
            if isinstance(agent.acts, bool):
                return action
            parts[agent.acts] = action
        return parts or None

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Let the agents due at `step` tick, senders of zero-delay channels before their receivers (rule 13).

        `step_signals`: the environment's; those known only after the step are added to them before `learn`.
        """
        for agent in self.agents.values():
            if agent.acts is True and agent.policy is None:
                agent.kept.newest_action = None  # outputs of an only actor act at their own step only
        for names in self.system.schedule.network_calls(step):
            for tick in tick_agents(self, names, step_signals):
                if self.agents[tick.agent_name].acts:
                    act(self, tick)
        for channel in (one for one in self.channels.values() if step in one.wire.outbox.sent):
            wires.delete_spent(channel, step)
        for group in self.system.groups:  # what follows the newest tick of each policy (rule 38)
            for name, tick in {tick.agent_name: tick for tick in group.window.ticks()}.items():
                if self.agents[name].policy is not None:
                    tick.outcomes.append(step_signals)

    def end_episodes(self, step: int, ends: EpisodeEnds) -> None:
        """Cut the episodes that ended at `step`, or single agents' lives: what is held, in flight or kept is void there (rule 20).

        Before that, policies value how the episodes ended that were truncated (rule 40).
        """
        if ends.final_signals is not None:
            note_final_values(self, step, ends.final_signals)
        for channel in self.channels.values():
            ended, terminated = self._over(ends, *channel.life_names)
            if ended.any():
                wires.end_episodes(channel, step, ended, terminated)
        for agent in self.agents.values():
            if trail := agent.kept.newest_states:
                ended, _ = self._over(ends, agent.life_name)
                agent.kept.newest_states = [(stamp, mask_fill_zero(~ended, value)) for stamp, value in trail]

    def _over(self, ends: EpisodeEnds, *lives: str) -> tuple[Tensor, Tensor]:
        """Where an episode, or one of these lives, is over, and where it ended for good."""
        ended, terminated = (as_mask(mask, self.nowhere[:, None]) for mask in (ends.ended, ends.terminated))
        for life in lives:
            own = ends.lives.get(life, (NONE, NONE))
            over, for_good = (as_mask(mask, self.nowhere[:, None]) for mask in own)
            ended, terminated = ended | over, for_good | (terminated & ~over)
        return ended, terminated

    def learn(self, step: int, ends: EpisodeEnds, *, watch: Watch = False) -> StepReport:
        """End episodes, and let every group whose window ends at `step` learn, then the predictors that something reached (rule 7).

        DivergenceError: no parameter has moved (rule 32). `watch`: whether predictions are part of the report.
        """
        self.end_episodes(step, ends)
        closed, dropped = self._closed_windows(step)
        # First everything is computed, with the parameters of before the step ...
        found = [window_update(self, group, window, step) for group, window in closed]
        updates = [update for update in found if update is not None]
        self.sum_tied(updates)
        for group, window in [*closed, *dropped]:
            self._close(group, window, step)
        gradients = gradient_updates(self, closed, step, watch=watch)
        inputs = input_updates(self, step)
        # ... then everything moves: the order cannot matter.
        for update in updates:
            update_returns(self, update)
        for update in updates:
            self.move(update.gradients_by_learner, step)
        for name, learned in gradients.items():
            self.optimizers[self.channels[name].synthetic_gradient.model].step(learned.gradients, step)
        for name, trained in inputs.items():
            self.optimizers[self.channels[name].synthetic_input.model].step(trained.gradients, step)
        for update in updates:
            further_passes(self, update, updates, step)
            copy_target(self, update)
        for _, window in [*closed, *dropped]:
            window.free_graph()
        return StepReport(updates, gradients, inputs, dropped)

    def _closed_windows(self, step: int) -> tuple[GroupWindows, GroupWindows]:
        """Windows that are learned from at `step`, and those without a tick or that nothing reaches any more (27b)."""
        ended = {"closed": GroupWindows(), "dropped": GroupWindows()}
        for group in self.system.groups:
            number = group.grid.number_ending_at(step)
            if number is None:
                continue
            newest, group.window = group.window, Window()
            if newest.number != number:  # no member ticked in it
                ended["dropped"].append((group, Window(number)))
                continue
            waiting, group.waiting[:] = [*group.waiting, newest], []
            for window in waiting:
                fate = fate_of(self, group, window, step)
                if fate == "waits":
                    window.free_graph()
                    group.waiting.append(window)
                    continue
                if fate == "closed" and window is not newest:
                    replay(self, window)  # with the parameters of now
                ended[fate].append((group, window))
        return ended["closed"], ended["dropped"]

    def _close(self, group: LearningGroup, window: Window, step: int) -> None:
        agents = [self.agents[name] for name in group.agent_names]
        wires.close(window, [c for agent in agents for c in agent.connections.read_channels], step)

    @torch.enable_grad()
    def replay_open_windows(self) -> None:
        """Make the graphs of open windows again from their ticks (rule 15)."""
        for group in self.system.groups:
            replay(self, group.window)
