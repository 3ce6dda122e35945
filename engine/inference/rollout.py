"""Rollouts: a system run forward in an environment of its own, with running statistics; nothing learns.

The system is a copy that shares the parameters and nothing that a tick changes; its agents tick by the same code as
those of the run (semantics 24).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch

from antiphon.agents.learner import Learner
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.clock import StepWindows
from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.engine.core.ledger import Ledger
from antiphon.engine.core.replicas import Replicas
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import AgentTick, Tape, Tick
from antiphon.engine.inference.compose import filled
from antiphon.engine.inference.rehearsal import Links
from antiphon.engine.step.forward import ForwardPass
from antiphon.engine.step.losses import ObjectiveEvaluator
from antiphon.envs.base import TorchVectorEnv

__all__ = ["Rollout", "Score"]

_STEP = StepWindows(1)
"""Nobody learns, so every step is a window: what has been read is let go at once."""


@dataclass(slots=True)
class Score:
    """What an agent's objective said, summed over ticks and environments.

    Attributes:
        loss: Sum of its loss.
        metric: Sum of its metric.
        count: How many targets there were.
    """

    loss: float = 0.0
    metric: float = 0.0
    count: int = 0


class Rollout:
    """A system in an environment of its own, from silence at step 0.

    Args:
        system: What is run; no bit of it changes.
        env: The environment, of any batch; the rollout owns it.
        links: How messages travel.
        seed: Of the environment, and of what is lost and added on the way.

    Attributes:
        scores: By agent with an objective: ticks count once all paths to it have filled.
    """

    def __init__(self, system: System, env: TorchVectorEnv, links: Links, seed: int) -> None:
        self.system = _stage(system, env.num_envs, links, seed)
        self.world = EnvironmentRunner(env, self.system.signals(), seed)
        self.scores = {name: Score() for name, agent in system.agents.items() if agent.goal is not None}
        self._ticker = ForwardPass(self.system)
        self._judge = ObjectiveEvaluator(self.system)
        self._filled = filled(system)

    def run(self, steps: int) -> dict[str, Score]:
        """Take so many steps and return the scores."""
        for _ in range(steps):
            self.step()
        return self.scores

    @torch.no_grad()
    def step(self) -> list[AgentTick]:
        """Take one step and return who ticked, with what it read and said."""
        step_signals = self.world.step_signals
        self._ticker.tick(step_signals.step, step_signals)
        ends = self.world.advance(self._ticker.action)
        parts = self._closed(step_signals.step)
        counted = [part for part in parts if step_signals.step >= self._filled[part.agent]]
        window_loss = self._judge.window(Tape(ticks=[Tick(step_signals.step, counted)]))
        for name, found in window_loss.losses.items():
            score = self.scores[name]
            score.loss += found.loss.item() * self.system.batch
            score.metric += found.score.item()
            score.count += int(found.count)
        self.system.cut(step_signals.step, ends)
        return parts

    def _closed(self, step: int) -> list[AgentTick]:
        """Close the step's windows, from which nobody learns, and return their parts."""
        parts: list[AgentTick] = []
        for unit in self.system.units:
            tape, unit.tape = unit.tape, Tape()
            parts += (part for tick in tape.ticks for part in tick.parts)
            for _, record in tape.sent:
                record.held_by_sender = False
        for part in parts:
            part.participates = True  # who learns no more is judged all the same
            for channel in self.system.agents[part.agent].channels:
                channel.ledger.close(step, step)
                channel.input_examples.clear()
                channel.input_example_members.clear()
        return parts


def _stage(system: System, batch: int, links: Links, seed: int) -> System:
    """A system that shares the parameters of another, in silence, with links and a batch of its own."""
    learners: dict[int, Learner] = {}
    for agent in system.owners().values():
        learner = learners[id(agent.learner)] = copy.copy(agent.learner)
        learner.frozen = True
    channels = {name: _opened(channel, batch, links, seed) for name, channel in system.channels.items()}
    units = [replace(unit, tape=Tape(), pending=[], past=[]) for unit in system.units]
    stage = replace(system.rewired(channels, learners, units), batch=batch)
    for agent in stage.agents.values():
        _calm(agent, batch, links)
    return stage


def _opened(channel: Channel, batch: int, links: Links, seed: int) -> Channel:
    """A channel on which nothing has been sent, and nothing comes back."""
    old = channel.ledger
    ledger = Ledger(
        old.name,
        old.sender,
        old.receiver,
        _STEP,
        old.link if channel.state else links.of(old.link, seed),
        returns=False,
        remembers=old.remembers,
        aligns=old.aligns,
        read=old.read,
        state=old.state,
    )
    stands_in = links.kind == "as_run" and links.inputs
    return replace(
        channel,
        coupling="detached",  # the real message is read, also where in training it never is
        ledger=ledger,
        zeros=channel.zeros.new_zeros(batch, channel.size),
        predictor=None,
        context=(),
        ends=(),
        target=None,
        input=channel.input if stands_in else None,
        input_context=channel.input_context if stands_in else (),
        input_examples=[],
        input_example_members=[],
        members=(),
        batch=batch,
    )


def _calm(agent: Agent, batch: int, links: Links) -> None:
    """Let an agent read and speak as ever, whether or not it learns."""
    agent.batch, agent.replicas = batch, Replicas(batch=batch, device=agent.replicas.index.device)
    agent.trail = None
    agent.p_update, agent.participation_seeds = 1.0, None
    agent.agent_disabled &= links.kind == "as_run"
    if agent.goal is not None:
        agent.goal = replace(agent.goal, weight=1.0)
