"""Acting: what acting agents do in the environment, sampled from policies and held until the next tick."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from antiphon.agents.distributions import BoxUnits
from antiphon.agents.network import OBJECTIVE
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.signals import Action, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import Tick
from antiphon.nets.random import UniformSteps, seed_for


class Acting:
    """The actions of a system's agents.

    What a policy does is a sample, a function of (seed, agent, step, environment), which holds until its next tick. The
    output of any other objective is an action as it is; where its agent acts alone, it is one at the agent's ticks only.

    Args:
        greedy: Whether policies take their most likely action instead of a sample.
        learns: Whether something learns from the actions, so that policies explore as they do at the step.
    """

    def __init__(self, system: System, *, greedy: bool, learns: bool) -> None:
        self.system, self.greedy, self._learns = system, greedy, learns
        self.actors = [agent for agent in system.agents.values() if agent.acts]
        self._with_policies = [agent for agent in system.agents.values() if agent.policy is not None]
        self._numbers: dict[str, UniformSteps] = {}
        """By stack: what its members' actions are sampled from."""
        self._units: dict[str | bool, BoxUnits | None] = {}
        """By part of the action, once it is taken: the map of a policy's samples to the numbers of a Box."""
        self._places: dict[str | bool, list[tuple[Agent, slice]]] = {}
        """By part of the action: the stacks of its actors and their rows there, seed after seed."""
        actors = [
            (agent.layout.seed_of(place), place, agent)
            for agent in self.actors
            for place in range(len(agent.members))
        ]
        for _, place, agent in sorted(actors, key=lambda actor: actor[0]):
            places = self._places.setdefault(agent.members[place].acts, [])
            start = place * agent.batch
            if places and places[-1] == (agent, slice(places[-1][1].start, start)):  # it goes on
                start = places.pop()[1].start
            places.append((agent, slice(start, (place + 1) * agent.batch)))

    def begin_step(self, step: int, step_signals: StepSignals) -> None:
        """Prepare a step: what does not hold is over; for policies that do not tick at it, it follows their newest tick."""
        for agent in self.actors:
            if agent.acts is True and agent.policy is None:
                agent.kept.newest_action = None
        for agent in self._with_policies:
            if not agent.clock.ticks_at(step):
                newest = self.system.group_by_agent[agent.name].window.newest_tick(agent.name)
                if newest is not None:
                    newest.outcomes.append(step_signals)

    def act(self, tick: Tick) -> None:
        """Take the action of a tick, and let its step be the first that follows it."""
        agent = self.system.agents[tick.agent_name]
        if agent.acts:
            agent.kept.newest_action = self._action(agent, tick)
        if agent.policy is not None:
            tick.outcomes.append(tick.observed_signals)

    def _action(self, agent: Agent, tick: Tick) -> Tensor:
        outputs, policy = constant(tick.ports[OBJECTIVE]), agent.policy
        if policy is None or policy.distribution is None:
            return outputs
        if self.greedy:
            action: Tensor = policy.distribution.mode(outputs)
        else:
            sampler = policy.at(tick.step if self._learns else None)
            assert sampler is not None
            if agent.name not in self._numbers:
                seeds = [seed_for(member.random_seed, "action") for member in agent.members]
                self._numbers[agent.name] = UniformSteps(seeds, self.system.device)
            numbers = self._numbers[agent.name].at(tick.step, agent.batch * sampler.draws)
            action = sampler.sample(outputs, numbers.view(-1, sampler.draws))
        tick.action = action
        return action

    def action(self) -> Action | None:
        """Return the action at the newest step in the environments, of several seeds row after row; None: no agent acted."""
        space: Any = self.system.description.action_space
        found: dict[str, Tensor] = {}
        for part, places in self._places.items():
            rows = [held[own] for agent, own in places if (held := self._present(agent)) is not None]
            if not rows:
                continue
            agent, action = places[0][0], rows[0] if len(rows) == 1 else torch.cat(rows)
            if isinstance(part, str):
                found[part] = self._in_space(agent, action, space[part], part)
            else:
                return self._in_space(agent, action, space, part)
        return found or None

    def _present(self, agent: Agent) -> Tensor | None:
        """The action of an agent that holds, also before its first tick; None: it does nothing."""
        newest, policy = agent.kept.newest_action, agent.policy
        if newest is not None or (agent.acts is True and policy is None):
            return newest
        rows = len(agent.members) * agent.batch
        outputs = self.system.zeros(rows, *agent.learner.network.heads[OBJECTIVE].size)
        if policy is None or policy.distribution is None:
            return outputs
        return policy.distribution.mode(outputs)

    def _in_space(
        self, agent: Agent, action: Tensor, space: spaces.Space[Any] | None, part: str | bool
    ) -> Tensor:
        """A copy of a sampled choice as the space counts it, or of numbers in a Box's units; the environment may change it."""
        if agent.policy is None or space is None:
            return action.clone()
        if part not in self._units:
            self._units[part] = BoxUnits.of(space)
        if (units := self._units[part]) is not None:
            return units(action)
        if isinstance(space, spaces.Discrete):
            return action + int(space.start)
        shaped = action.reshape(-1, *(space.shape or ()))
        if isinstance(space, spaces.MultiDiscrete) and space.start.any():
            return shaped + torch.as_tensor(space.start).to(action)
        return shaped.clone()
