"""Further passes over a window: what `ppo` learns from it after the first one (Schulman et al. 2017, algorithm 1).

The first pass is that of every window: ledgers are booked by it, and senders, synthetic gradients and critics of channels
learn in it. The further passes, over minibatches of environments, move the parameters of the agent's learning group alone:
messages from outside it are the constants they were, and so are advantages, returns and the first pass's
log-probabilities; running statistics stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.agents.network import STATE, VALUE, Tensors
from antiphon.comms.credit import BackwardRequest, backward_all, constant
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.masks import EnvMask, mask_fill_zero
from antiphon.engine.core.records import Tape
from antiphon.engine.core.system import Stacked
from antiphon.engine.core.updates import PolicyWindow, Update, WindowLoss
from antiphon.engine.policies.windows import port_names, ports_of
from antiphon.engine.step.backward import ObjectiveEvaluator
from antiphon.engine.step.forward import ForwardPass
from antiphon.nets.random import seed_for, uniform_many

__all__ = ["FurtherPasses"]


class FurtherPasses:
    """Makes the further passes over the windows that end at a step, in the same order for all groups.

    Args:
        stacked: The stacks, and the single agents that they are made of.
        forward_pass: Replays windows.
        evaluator: Of the policies.
    """

    def __init__(self, stacked: Stacked, forward_pass: ForwardPass, evaluator: ObjectiveEvaluator) -> None:
        self.system = stacked.system
        self.forward_pass, self.evaluator = forward_pass, evaluator
        self._leaders: dict[str, list[str]] = {}
        """By stack: of each member, the first agent with such a policy that it learns with."""
        first = {
            id(group): next((name for name in group.members if _passes(stacked.base.agents[name]) > 1), None)
            for group in stacked.base.groups
        }
        for agent in self.system.agents.values():
            leaders = [first[id(stacked.base.group_of[name])] for name in agent.names]
            if None not in leaders:
                self._leaders[agent.name] = [str(name) for name in leaders]
        self._seeds = {name: agent.seed for name, agent in stacked.base.agents.items()}

    def updates(self, closed: Sequence[Update], step: int) -> Iterator[list[Update]]:
        """Yield the updates of each minibatch in turn; parameters are to be moved before the next is asked for.

        Args:
            closed: What windows that end at the step have learned from in their first pass.
            step: The step.
        """
        waiting = [self._of(update) for update in closed if self._has_more(update)]
        if not waiting:
            return
        for epoch in range(1, max(each.passes for each in waiting)):
            running = [each for each in waiting if each.passes > epoch]
            batches = [self._minibatches(each, epoch, step) for each in running]
            for place in range(max(map(len, batches))):
                pairs = zip(running, batches, strict=True)
                yield [self._update(each, own[place]) for each, own in pairs if place < len(own)]

    def _has_more(self, update: Update) -> bool:
        return any(_passes(self.system.agents[name]) > 1 for name in update.window_loss.policies)

    def _of(self, update: Update) -> _Window:
        agents = [self.system.agents[name] for name in update.window_loss.policies]
        agents = [agent for agent in agents if _passes(agent) > 1]
        names = {agent.name for agent in agents}
        found = update.window_loss
        own = WindowLoss(
            losses={name: losses for name, losses in found.losses.items() if name in names},
            evaluated={(step, name) for step, name in found.evaluated if name in names},
            policies={name: policy for name, policy in found.policies.items() if name in names},
        )
        alone = _Alone.of(update, agents[0], self.forward_pass) if len(update.group.members) == 1 else None
        return _Window(update, agents, own, max(_passes(agent) for agent in agents), alone)

    def _minibatches(self, window: _Window, epoch: int, step: int) -> list[dict[str, Tensor]]:
        """The rows of each minibatch, by agent: the environments are in another order in each epoch."""
        policy = window.agents[0].goal
        assert policy is not None
        assert policy.policy is not None
        batch, parts = self.system.batch, policy.policy.minibatches
        found: list[dict[str, Tensor]] = [{} for _ in range(parts)]
        for agent in window.agents:
            seeds = [seed_for(self._seeds[name], "epoch", str(epoch)) for name in self._leaders[agent.name]]
            numbers = uniform_many(torch.tensor(seeds, device=self.system.device), step, batch)
            first = torch.arange(len(seeds), device=self.system.device).unsqueeze(1) * batch
            rows = numbers.argsort(dim=1, stable=True) + first
            for own, some in zip(found, rows.tensor_split(parts, dim=1), strict=True):
                own[agent.name] = some.flatten()
        return found

    def _update(self, window: _Window, rows: dict[str, Tensor]) -> Update:
        update, total = window.update, None
        if window.alone is None:
            self.forward_pass.replay(update.tape)
        for agent in window.agents:
            own = rows[agent.name]
            policy = window.loss.policies[agent.name]
            ports = self._ports(agent, policy, own) if window.alone is None else window.alone.ports(own)
            found = self.evaluator.policies.further(agent, policy, own, ports)
            assert agent.goal is not None
            loss = found.losses.sum() * (agent.goal.weight * len(agent.members) / len(own))
            total = loss if total is None else total + loss
            policy.further.append(found.figures)
        parameters = {name: self.system.agents[name].learner.trainable for name in update.gradients}
        (result,) = backward_all([BackwardRequest(total, [], parameters, [])], self.system.batch)
        return Update(update.group, update.tape, result.parameters, update.learning, window.loss)

    @staticmethod
    def _ports(agent: Agent, policy: PolicyWindow, rows: Tensor) -> Tensors:
        """The ports of some rows at the window's ticks, [T, rows, …]."""
        return {name: port[:, rows] for name, port in ports_of(agent, policy.parts).items()}


def _passes(agent: Agent) -> int:
    policy = None if agent.goal is None else agent.goal.policy
    return 0 if policy is None else policy.passes


@dataclass(slots=True)
class _Window:
    """A window with further passes."""

    update: Update
    """What its first pass learned."""
    agents: list[Agent]
    """Those with further passes."""
    loss: WindowLoss
    """What is theirs of the first pass."""
    passes: int
    alone: _Alone | None
    """The inputs of an agent that learns alone; None: the window is replayed."""


@dataclass(slots=True)
class _Alone:
    """What the network of an agent that learns alone read in a window, which no pass changes.

    All its ticks are one evaluation where it has no state.
    """

    agent: Agent
    tape: Tape
    names: tuple[str, ...]
    """The ports that its losses are made of."""
    inputs: Tensor
    """[T, rows, *input_shape]."""
    observed: Tensor | None
    """[T, rows, *shape]: what its critic reads."""
    memories: list[tuple[int, int | None, Tensor | None, EnvMask]]
    """Of an agent with a state, at each tick: its step, and of the state read the stamp where it was made in the window, its
    value elsewhere, and where it is available."""

    @classmethod
    def of(cls, update: Update, agent: Agent, forward_pass: ForwardPass) -> _Alone | None:
        """Return the inputs of an agent's window; None where only a replay makes the same outputs."""
        parts = [(tick.step, part) for tick in update.tape.ticks for part in tick.parts]
        memory, network = agent.memory, agent.learner.network
        if not network.pure or any(read.stamp is not None for _, part in parts for read in part.reads):
            return None
        if memory is not None and not (memory.sender_index is None is memory.receiver_index):
            return None
        with torch.no_grad():
            inputs = torch.stack([forward_pass.inputs(part, update.tape) for _, part in parts])
            observed = None
            if agent.critic:
                observed = torch.stack([forward_pass.critic_input(part) for _, part in parts])
        memories = []
        for step, part in parts if memory is not None else ():
            assert part.memory is not None
            value = None if part.memory.value is None else constant(part.memory.value)
            memories.append((step, part.memory.stamp, value, part.memory.available))
        return cls(agent, update.tape, port_names(agent), inputs, observed, memories)

    def ports(self, rows: Tensor) -> Tensors:
        """Evaluate the network on some rows, as many of each member, at all ticks: [T, len(rows), …] by port."""
        inputs = self.inputs[:, rows]
        if self.memories:
            found = self._in_turn(inputs, rows)
        else:
            found = self._in_ticks(self._evaluate(self._in_members(inputs), None))
        if self.observed is not None:
            learner, start = self.agent.learner, self.tape.start[self.agent.name]
            observed = self._in_members(self.observed[:, rows])
            training = not learner.frozen
            values, _ = learner.values(learner.parameters, start, observed, training=training)
            found |= self._in_ticks({VALUE: values})
        return found

    def _in_members(self, values: Tensor) -> Tensor:
        """[T, N * b, …] as rows of the members, [N * T * b, …]."""
        each = values.view(len(values), len(self.agent.members), -1, *values.shape[2:])
        return each.transpose(0, 1).reshape(-1, *values.shape[2:])

    def _in_ticks(self, ports: Tensors) -> Tensors:
        """The reverse, of the ports that losses are made of."""
        shape = len(self.agent.members), len(self.inputs), -1
        return {
            name: port.view(*shape, *port.shape[1:]).transpose(0, 1).flatten(1, 2)
            for name, port in ports.items()
            if name in self.names
        }

    def _in_turn(self, inputs: Tensor, rows: Tensor) -> Tensors:
        """The ports at all ticks of an agent with a state, one after the other."""
        memory = self.agent.memory
        assert memory is not None
        states: dict[int, Tensor] = {}
        found: dict[str, list[Tensor]] = {}
        for x, (step, stamp, value, available) in zip(inputs, self.memories, strict=True):
            if stamp is not None:
                there = available[rows] if isinstance(available, Tensor) else available
                state = mask_fill_zero(there, states[stamp])
            else:
                state = (memory.zeros if value is None else value)[rows]
            ports = self._evaluate(x, state)
            states[step] = ports[STATE]
            for name in self.names:
                if name in ports:
                    found.setdefault(name, []).append(ports[name])
        return {name: torch.stack(each) for name, each in found.items()}

    def _evaluate(self, x: Tensor, state: Tensor | None) -> Tensors:
        learner, start = self.agent.learner, self.tape.start[self.agent.name]
        training = not learner.frozen
        ports, _ = learner.network(learner.parameters, start, x, training=training, state=state)
        return ports
