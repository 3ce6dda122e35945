"""Further passes over a window: what `ppo` learns from it after the first one (Schulman et al. 2017, algorithm 1).

The first pass is that of every window: what it reads is booked by it, and senders, synthetic gradients and critics of channels
learn in it. Where no tick needs another, it is evaluated for all ticks at once, as further passes are. These, over minibatches of
environments, move the parameters of the agent's learning group alone, and those of senders that are replayed beside it: other
messages from outside are the constants they were, and so are advantages, returns and the first pass's log-probabilities; running
statistics of agents stay. An agent with a replay buffer learns from windows of it in place of the newest.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.agents.policy_objectives import PolicyObjective
from antiphon.base.problems import DocumentError
from antiphon.comms.backward_requests import BackwardRequest
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PredictorUpdate, StepUpdates, Update, WindowLoss
from antiphon.engine.heart.window import LearningGroup, Window
from antiphon.engine.policies.policy_evaluator import PolicyEvaluator
from antiphon.engine.policies.policy_window import PolicyWindows, policy_windows
from antiphon.engine.policies.replay_buffer import DrawnWindows
from antiphon.engine.policies.replayed_senders import ReplayedSender
from antiphon.engine.policies.replays import Minibatch, Replay, SomeRows
from antiphon.engine.policies.resting_heads import passes_of, places_at_rest
from antiphon.engine.policies.windows_at_once import WindowsAtOnce, evaluated_at_once
from antiphon.nets.random import seed_for, uniform_many


class FurtherPasses(WindowsAtOnce):
    """Makes the further passes over the windows that end at a step, in the same order for all groups."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.system = engine, engine.system
        self.agents = {name for name, agent in self.system.agents.items() if passes_of(agent) > 1}
        resting = places_at_rest(engine.single_systems[0])
        self._resting: dict[str, frozenset[int]] = {
            agent.name: resting.get(agent.members[0].name, frozenset())
            for agent in self.system.agents.values()
        }
        """By stack: the places of its heads at rest, which are those of each member."""
        self._seeds = {
            agent.name: [
                _leader(engine.single_systems[agent.layout.seed_of(n)], member).random_seed
                for n, member in enumerate(agent.members)
            ]
            for agent in self.system.agents.values()
        }
        """By stack: of each member, the seed of the first agent with further passes that it learns with."""
        self._seeds_by_uses: dict[Hashable, Tensor] = {}
        self._at_once = {
            group: {name: self.system.agents[name] for name in group.agent_names}
            for group in self.system.groups
            if all(evaluated_at_once(self.system.agents[name]) for name in group.agent_names)
        }
        """The groups whose first pass is evaluated at once, with their agents."""
        engine.forward_pass.keep_no_graph(name for agents in self._at_once.values() for name in agents)
        self._first: dict[LearningGroup, _FirstPass] = {}
        """The first pass over the newest window of each group, until the further passes."""
        for channel in self.system.channels.values():
            if channel.synthetic_gradient.replayed:
                _check_replayable(channel, self.system)

    def window_ports(self, agent: Agent, window: Window) -> Tensors | None:
        """Return the ports of the first pass over a window, where it is evaluated at once: see `WindowsAtOnce`."""
        group = self.system.group_by_agent[agent.name]
        agents = self._at_once.get(group)
        if agents is None:
            return None
        first = self._first.get(group)
        if first is None or first.window is not window:
            replay, device = SomeRows(window, agents, self.engine.forward_pass), self.system.device
            rows = {
                name: torch.arange(len(stack.members) * stack.batch, device=device)
                for name, stack in agents.items()
            }
            first = self._first[group] = _FirstPass(window, replay, replay.ports(rows))
        return first.ports[agent.name]

    def after_move(self, updates: StepUpdates, step: int) -> None:
        """Take all further passes over the windows of each turn, and move the parameters after each."""
        for turn in updates.turns:
            for minibatch_updates, predictors in self._minibatch_updates(turn, step):
                self.engine.finish_gradients(minibatch_updates, step)
                of_minibatch = StepUpdates([minibatch_updates], [*predictors.items()])
                self.engine.moving.check_predictors(of_minibatch, step)
                self.engine.moving.move(of_minibatch, step)

    def _minibatch_updates(self, first_passes: Sequence[Update], step: int) -> Iterator[_Learned]:
        """Yield what is learned from each minibatch in turn; parameters are to be moved before the next is asked for."""
        windows = [
            self._window(update, first_passes, step)
            for update in first_passes
            if not self.agents.isdisjoint(policy_windows(update.window_loss))
        ]
        if not windows:
            return
        for epoch in range(1, max(window.passes for window in windows)):
            windows_of_epoch = [window for window in windows if window.passes > epoch]
            for k in range(max(len(window.minibatches[epoch]) for window in windows_of_epoch)):
                updates, predictors = list[Update](), dict[str, PredictorUpdate]()
                for window in windows_of_epoch:
                    if k < len(window.minibatches[epoch]):
                        window_updates, window_predictors = self._learned(window, epoch, k, step)
                        updates += window_updates
                        predictors |= window_predictors
                yield updates, predictors

    def _window(self, update: Update, first_passes: Sequence[Update], step: int) -> _WindowPasses:
        first_loss = update.window_loss
        policies = {
            name: policy for name, policy in policy_windows(first_loss).items() if name in self.agents
        }
        agents = [self.system.agents[name] for name in policies]
        loss = WindowLoss(
            reported_loss_by_agent={
                name: reported
                for name, reported in first_loss.reported_loss_by_agent.items()
                if name in policies
            },
            ticks_with_loss={(step, name) for step, name in first_loss.ticks_with_loss if name in policies},
            notes={PolicyWindows: PolicyWindows(policies)},
        )
        group_agents = {name: self.system.agents[name] for name in update.group.agent_names}
        passes = max(map(passes_of, agents))
        assert agents[0].policy is not None
        if agents[0].policy.windows_kept > 1:  # it learns alone
            (seeds,) = self._seeds_of(agents[0].name, [("replay",)])
            drawn = DrawnWindows(
                update.window,
                agents[0],
                policies[agents[0].name],
                self.engine.forward_pass,
                seeds,
            )
            return _WindowPasses(
                update, agents, loss, passes, drawn, [], self._minibatches(drawn, loss, agents[0], step)
            )
        update_by_agent = {
            name: first_pass for first_pass in first_passes for name in first_pass.group.agent_names
        }
        senders = [
            ReplayedSender(self.engine, channel, update_by_agent[channel.sender])
            for agent in group_agents.values()
            for channel in agent.connections.incoming
            if channel.synthetic_gradient.replayed
        ]
        replay = self._replay(update, group_agents, senders)
        minibatches = self._minibatches(replay, loss, agents[0], step)
        return _WindowPasses(update, agents, loss, passes, replay, senders, minibatches)

    def _replay(
        self, update: Update, group_agents: Mapping[str, Agent], senders: Sequence[ReplayedSender]
    ) -> Replay:
        """The evaluation of a window's ticks again that costs least."""
        if update.group in self._at_once:
            return self._first.pop(update.group).replay
        forward_pass = self.engine.forward_pass
        if SomeRows.obstacle(update.window, group_agents):
            return Replay(update.window, group_agents, forward_pass)
        replayed_messages = {sender.channel.name: sender.messages for sender in senders}
        return SomeRows(update.window, group_agents, forward_pass, replayed_messages)

    def _minibatches(
        self, replay: Replay | DrawnWindows, loss: WindowLoss, first: Agent, step: int
    ) -> dict[int, list[Minibatch]]:
        """The minibatches of each further pass, by epoch; the environments are in another order in each.

        Args:
            first: An agent with further passes, as many as all others of its group.
        """
        policy, batch = first.policy, self.system.batch
        assert isinstance(policy, PolicyObjective)
        epochs = range(1, policy.epochs)
        epoch_of_minibatches = [epoch for epoch in epochs for _ in range(policy.minibatches)]
        rows_of_minibatches: list[dict[str, Tensor]] = [{} for _ in epoch_of_minibatches]
        for agent in replay.agents.values():
            seeds = self._seeds_of(agent.name, [("epoch", str(epoch)) for epoch in epochs])
            members = torch.arange(seeds.shape[1], device=self.system.device).unsqueeze(1) * batch
            numbers = uniform_many(seeds.flatten(), step, batch).view(*seeds.shape, batch)
            parts = (numbers.argsort(dim=2, stable=True) + members).tensor_split(policy.minibatches, dim=2)
            by_epoch = zip(*(part.flatten(1).unbind() for part in parts), strict=True)
            for rows_by_agent, rows in zip(
                rows_of_minibatches, itertools.chain.from_iterable(by_epoch), strict=True
            ):
                rows_by_agent[agent.name] = rows
        constants_of_minibatches = replay.constants(policy_windows(loss), rows_of_minibatches)
        minibatches: dict[int, list[Minibatch]] = {epoch: [] for epoch in epochs}
        for epoch, rows_by_agent, constants in zip(
            epoch_of_minibatches, rows_of_minibatches, constants_of_minibatches, strict=True
        ):
            minibatches[epoch].append(Minibatch(epoch, rows_by_agent, constants))
        return minibatches

    def _seeds_of(self, agent: str, uses: Sequence[tuple[str, ...]]) -> Tensor:
        """[U, N] int64: the seeds of a stack's random numbers of some uses, such as the order in an epoch, made once."""
        if (agent, *uses) not in self._seeds_by_uses:
            seeds = [[seed_for(seed, *use) for seed in self._seeds[agent]] for use in uses]
            self._seeds_by_uses[agent, *uses] = torch.tensor(seeds, device=self.system.device)
        return self._seeds_by_uses[agent, *uses]

    def _learned(self, window: _WindowPasses, epoch: int, k: int, step: int) -> _Learned:
        """What is learned from a minibatch of a window: by its group, and by the senders that are replayed beside it."""
        update, policies = window.update, self.engine.features.of(PolicyEvaluator)
        minibatch = window.minibatches[epoch][k]
        assert policies is not None
        slopes_by_policy = window.replay.slopes(policies, policy_windows(window.loss), minibatch)
        slopes = list(itertools.chain.from_iterable(slopes_by_policy))
        parameters = {
            name: self.system.agents[name].learner.trainable for name in update.gradients_by_learner
        }
        read = [sender.read for sender in window.senders]
        requests = [BackwardRequest(parameters=parameters, values_read=read, slopes=slopes)]
        sender_requests = [
            (sender, request) for sender in window.senders if (request := sender.request(step))
        ]
        first = window.agents[0]
        batch = len(minibatch.rows[first.name]) // len(first.members)
        learned = [update, *(sender.first_update for sender, _ in sender_requests)]
        (gradients, returned), *sender_gradients = self.engine.backward_pass.gradients(
            [(one.group, one.window) for one in learned],
            [*requests, *(request for _, request in sender_requests)],
            batch,
            *(str(step), str(epoch), str(k)),
        )
        update_of_agents = Update(update.group, update.window, window.loss, {**gradients})
        for name in gradients:
            update_of_agents.rest_parameters(name, self._resting[name])
        updates = [update_of_agents]
        updates += [
            sender.update(gradients_of_sender)
            for (sender, _), (gradients_of_sender, _) in zip(sender_requests, sender_gradients, strict=True)
        ]
        trainer = self.engine.predictor_trainer
        examples = {
            sender.channel.name: sender.examples(gradient)
            for sender, gradient in zip(window.senders, returned, strict=True)
            if trainer.learns(sender.channel)
        }
        return updates, trainer.differentiate_predictors(examples, further=True)


_Learned = tuple[list[Update], dict[str, PredictorUpdate]]
"""What is learned from a minibatch: updates of agents, and of synthetic gradients by channel."""


def _check_replayable(channel: Channel, system: System) -> None:
    """Check that the ticks and environments of a channel's ends can be evaluated apart.

    Raises:
        DocumentError: One has a network with a state, or whose samples depend on each other.
    """
    for name in (channel.sender, channel.receiver):
        network = system.agents[name].learner.network
        mixed = "its network has a state" if network.state_size else network.row_split_obstacle()
        if mixed is not None:
            message = f"all replays ticks and environments apart, and those of '{system.agents[name].member_names[0]}' depend on each other: "
            raise DocumentError(
                ("channels", channel.member_names[0], "gradient", "passes"), f"{message}{mixed}; use first"
            )


def _leader(base: System, agent: Agent) -> Agent:
    """The first agent with further passes that an agent learns with; itself, if none has any."""
    group_agents = (base.agents[name] for name in base.group_by_agent[agent.name].agent_names)
    return next((member for member in group_agents if passes_of(member) > 1), agent)


@dataclass(frozen=True, slots=True)
class _FirstPass:
    """The first pass over a window that is evaluated at once."""

    window: Window
    replay: Replay
    """Replay of the window's ticks; the further passes use it too."""
    ports: dict[str, Tensors]
    """Ports by agent, [ticks, rows, …]."""


@dataclass(slots=True)
class _WindowPasses:
    """A window with further passes."""

    update: Update
    """What its first pass learned."""
    agents: list[Agent]
    """The agents with further passes."""
    loss: WindowLoss
    """These agents' losses of the first pass."""
    passes: int
    replay: Replay | DrawnWindows
    senders: list[ReplayedSender]
    """The senders whose windows are replayed beside it."""
    minibatches: dict[int, list[Minibatch]]
